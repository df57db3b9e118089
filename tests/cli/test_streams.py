"""The commands as a shell starts them: closed, full and narrow outputs end in one message or in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.folders import write_run

COMMANDS = {
    "guard-plugins": "guard_plugins.cli.plugins",
    "guard-plugins --help": "guard_plugins.cli.plugins --help",
    "guard-run --help": "guard_plugins.cli.run --help",
    "guard-run --version": "guard_plugins.cli.run --version",
    "guard-run --print-config": "guard_plugins.cli.run --method noise --print-config",
    "guard-eval --help": "guard_plugins.cli.eval --help",
    "guard-report --help": "guard_plugins.cli.report --help",
}


def shell(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``$RUN`` starts Python's ``-m``."""
    env = {**os.environ, "RUN": f"{sys.executable} -m", **variables}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_bears_every_output(command: str) -> None:
    whole = shell(f"$RUN {COMMANDS[command]}")
    assert whole.returncode == 0
    assert whole.stderr == ""
    # argparse passes over a help text that it cannot write, where Python's streams are not buffered
    full_codes = (0, 1) if "--help" in command else (1,)
    for redirection, codes in (
        (">&-", (0,)), (">&- 2>&-", (0,)), ("> /dev/full", full_codes), ("| true", (0, 141)), ("| head -c 1", (0, 141)),
    ):  # fmt: skip
        done = shell(f"$RUN {COMMANDS[command]} {redirection}")
        assert "Traceback" not in done.stderr, (redirection, done.stderr)
        assert "Exception ignored" not in done.stderr, (redirection, done.stderr)
        assert done.returncode in codes, (redirection, done)
    if "--help" in command:
        return
    full = shell(f"$RUN {COMMANDS[command]} > /dev/full")
    assert full.stderr.count("error: ") == 1
    assert "No space left on device" in full.stderr


def test_the_list_bears_a_closed_a_full_and_a_broken_output() -> None:
    script = "$RUN guard_plugins.cli.plugins"
    closed, full, broken = shell(f"{script} >&-"), shell(f"{script} > /dev/full"), shell(f"{script} | true")
    assert (closed.returncode, closed.stderr) == (0, "")
    assert full.returncode == 1
    assert full.stderr == "error: Cannot read or write the output\n  seen: No space left on device\n"
    assert broken.returncode in (0, 141)
    assert broken.stderr == ""


def test_a_path_the_output_cannot_encode_is_escaped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "lauf-ä")
    output = tmp_path / "ü.html"
    done = shell(f'$RUN guard_plugins.cli.report "{run}" --output "{output}"', PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path}/\\xfc.html\n"
    assert output.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--resume", "x" * 300], "255 bytes"), (["run", "--config", "x/" * 3000], "a path 4000"),
        (["run", "--config", ""], "An empty path"),
        (["run", "--resume", "~nosuchuser/x"], "home folder of ~nosuchuser"),
        (["run", "--method", "noise", "--output", "x" * 300], "255 bytes"),
        (["run", "--method", "noise", "--output=~nosuchuser/x"], "home folder of ~nosuchuser"),
        (["run", "--method", "noise", "--teacher", "x" * 300], "255 bytes"),
        (["run", "--method", "noise", "--data.image-size", "1000000"], "4096"),
        (["report", "x" * 300, "--output", "x.html"], "255 bytes"),
        (["report", "x", "--output", "x" * 300 + ".html"], "255 bytes"),
        (["plugins", "new", "mine", "--into", ""], "An empty path"),
        (["plugins", "new", "mine", "--into", "x" * 300], "255 bytes"),
    ],
)  # fmt: skip
def test_paths_that_cannot_be_end_with_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib import import_module

    command = import_module(f"guard_plugins.cli.{arguments[0]}")
    assert command.main(arguments[1:]) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    assert message in error


def test_a_file_that_may_not_be_read_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    import errno

    from guard_plugins.cli.exit_codes import exit_code

    def forbidden() -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/some/file")

    assert exit_code(forbidden) == 1
    assert capsys.readouterr().err == "error: Cannot read or write /some/file\n  seen: Permission denied\n"


def test_without_a_home_folder_the_data_must_be_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from guard_plugins.cli import run

    def homeless(path: Path) -> Path:
        if str(path).startswith("~"):
            raise RuntimeError("Could not determine home directory.")
        return path

    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.chdir(tmp_path)
    assert run.main(["--method", "random", "--dataset", "cifar10", "--teacher.network", "small-resnet"]) == 2
    assert "Name the folder with --data-root, or set HOME." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["plugins", "run", "eval", "report"])
def test_a_working_folder_that_is_gone_is_one_clear_error(command: str, tmp_path: Path) -> None:
    """PyTorch would end the process with words of its own, about a library that cannot be loaded."""
    (tmp_path / "gone").mkdir()
    code = f"import sys; from guard_plugins.cli.{command} import main; sys.exit(main(['x']))"
    done = shell(f'cd {tmp_path}/gone && rmdir ../gone && "{sys.executable}" -c "{code}"')
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error: The current folder cannot be used\n  seen: No such file or directory\n  do: " in done.stderr
