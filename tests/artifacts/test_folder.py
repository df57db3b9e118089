"""A new run's folder: what lies there already is named, and never written over."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.errors import ConfigError


@pytest.mark.parametrize(
    ("files", "what", "do"),
    [
        (["notes.txt"], "is not empty", "Choose another folder, or move its files away"),
        (["config.yaml", "events.jsonl"], "holds a stopped run", "Go on with it: guard-run --resume"),
        (["config.yaml", "report.json"], "holds a finished run", "Choose another folder; nothing is overwritten."),
    ],
)
def test_a_folder_that_holds_something_is_named(tmp_path: Path, files: list[str], what: str, do: str) -> None:
    for name in files:
        (tmp_path / name).write_text(name)
    with pytest.raises(ConfigError, match=what) as caught:
        RunFolder.create(tmp_path)
    assert caught.value.do.startswith(do)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: name for name in files}


def test_half_of_a_first_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml.part").write_text("ipc")
    assert RunFolder.create(tmp_path).path == tmp_path


def test_a_process_killed_anywhere_before_its_first_file_leaves_no_run(tmp_path: Path) -> None:
    """A copy of this process dies at its first change to the disk, at its second, and so on."""
    for change in range(1, 20):
        folder = tmp_path / str(change)
        if not (child := os.fork()):
            left = [change]

            def hook(event: str, arguments: tuple[object, ...], left: list[int] = left) -> None:
                writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
                if writes or event in ("os.mkdir", "os.rename", "os.remove"):
                    left[0] -= 1
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            RunFolder.create(folder).begin("ipc: 1")
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
        if not (folder / "config.yaml").exists():
            RunFolder.create(folder).begin("ipc: 2")
        assert [path.name for path in folder.iterdir() if path.name != ".lock"] == ["config.yaml"]
    assert 4 < change < 19


def test_of_two_that_begin_at_once_one_has_the_folder(tmp_path: Path) -> None:
    first, second = RunFolder.create(tmp_path), RunFolder.create(tmp_path)
    first.begin("seed: 1")
    with pytest.raises(ConfigError, match="holds a stopped run"):
        second.begin("seed: 2")
    assert first.config.read_text() == "seed: 1"
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_runs_that_begin_in_one_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20260101-120000")
    paths = [RunFolder.reserve("sre2l", "digits") for _ in range(3)]
    first = Path("runs/sre2l-digits-20260101-120000")
    assert paths == [first, Path(f"{first}-2"), Path(f"{first}-3")]
    assert all(path.is_dir() for path in paths)


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_a_folder_of_runs_that_is_none_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").write_text("") if kind == "file" else Path("runs").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="cannot be made or written"):
        RunFolder.reserve("sre2l", "digits")
