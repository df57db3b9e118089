"""guard-report as a shell sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from guard_plugins._version import __version__
from guard_plugins.cli import report
from tests.report.folders import GUARD, write_run


def test_two_runs_become_a_page_with_the_same_numbers_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(write_run(tmp_path / "a", guard=GUARD)), str(write_run(tmp_path / "b"))]
    output = tmp_path / "compare.html"
    assert report.main([*runs, "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    numbers = json.loads(output.with_suffix(".json").read_text())
    assert [entry["label"] for entry in numbers["entries"]] == ["sre2l, hook", "sre2l, no hook"]
    stored = json.loads((tmp_path / "a" / "report.json").read_text())
    assert numbers["entries"][0]["models"]["student"] == stored["models"]["student"]
    text, html = output.with_suffix(".md").read_text(), output.read_text()
    for shown in (text, html):
        assert "90.0" in shown
        assert "sre2l, no hook" in shown
    assert "| sre2l, hook: student |" in text
    assert "guard-run --method sre2l" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing", "--output", "x.html"], "There is no finished run in missing"),
        (["a", "--output", "x.txt"], "must end in .html"),
        (["a", "a", "--output", "x.html"], "was given twice"),
        (["a", "--output", "no/such/x.html"], "There is no folder no/such"),
    ],
)
def test_wrong_input_ends_with_code_2_and_one_message(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_run(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    assert report.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("error: ") == 1
    assert message in captured.err
    assert captured.out == ""
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize("name", ["a/report.html", "notes.html", "data.html", "deep.html", "text.html", "compare.htm"])
def test_only_comparisons_are_replaced(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "a")
    assert report.main([str(run), "--output", str(tmp_path / "compare.html")]) == 0
    (tmp_path / "notes.html").write_text("mine")
    (tmp_path / "compare.htm").write_text("mine")
    (tmp_path / "text.md").write_text("mine")
    (tmp_path / "data.json").write_text('{"entries": "mine"}')
    (tmp_path / "deep.json").write_text("[" * 200_000)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert report.main([str(run), "--output", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert "is there already, and nothing says that it belongs to a comparison of this name (--output)" in said
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("lost", [".html", ".md", None])
def test_a_comparison_is_made_again(lost: str | None, tmp_path: Path) -> None:
    run, page = write_run(tmp_path / "a"), tmp_path / "page.html"
    assert report.main([str(run), "--output", str(page)]) == 0
    numbers = page.with_suffix(".json")
    of_before = {key: value for key, value in json.loads(numbers.read_text()).items() if key != "page"}
    for kept in (numbers.read_text(), json.dumps(of_before)):
        numbers.write_text(kept)
        page.write_text("spoilt")
        if lost:  # as by a command that was killed
            page.with_suffix(lost).unlink()
        assert report.main([str(run), "--output", str(page)]) == 0
        assert "sre2l" in page.read_text()
        assert page.with_suffix(".md").exists()


def test_neither_help_nor_a_report_imports_torch(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    for arguments in (["--help"], ["--version"], [str(folder), "--output", str(tmp_path / "x.html")]):
        code = (
            f"import sys\nfrom guard_plugins.cli.report import main\ntry: main({arguments!r})\n"
            "except SystemExit: pass\nassert 'torch' not in sys.modules, 'torch was imported'"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert __version__ in done.stdout or "--version" not in arguments
