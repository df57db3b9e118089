"""Two installations are timed in turn by what their runs report; stand-ins of guard-run make the numbers known."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from examples.benchmarks import versions

STAND_IN = """#!{python}
import json, sys
from pathlib import Path
calls, seconds = Path({calls!r}), {seconds!r}
calls.write_text(calls.read_text() + {name!r} + " " + " ".join(sys.argv[1:-1]) + "\\n")
if seconds is None:
    sys.exit("the disk is full")
output = Path(sys.argv[-1])
output.mkdir()
(output / "report.json").write_text(json.dumps({{"seconds": seconds}}))
(output / "manifest.json").write_text(json.dumps({{"versions": {{"torch": {name!r}}}, "command": ["private"]}}))
"""


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """The file in which every stand-in says that it was called, and with what."""
    path = tmp_path / "calls"
    path.touch()
    return path


def stand_in(folder: Path, name: str, seconds: dict[str, float] | None) -> str:
    path = folder / name
    text = STAND_IN.format(python=sys.executable, calls=str(folder / "calls"), seconds=seconds, name=name)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_ratios_by_stage(tmp_path: Path, calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = stand_in(tmp_path, "before", {"teacher": 4.0, "evaluation": 10.0, "attacks": 1.0})
    after = stand_in(tmp_path, "after", {"teacher": 4.0, "evaluation": 6.0, "figures": 2.0})
    path = tmp_path / "found.json"
    asked = ["--before", before, "--after", after, "--rounds", "2", "--json", str(path), "--", "--method", "sre2l"]
    assert versions.main(asked) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert lines["evaluation"] == ["10.0s", "6.0s", "0.60"]
    assert lines["attacks"] == ["1.0s", "–", "–"]
    assert lines["figures"] == ["–", "2.0s", "–"]
    assert calls.read_text().splitlines() == [f"{name} --method sre2l --output" for name in ("before", "after")] * 2
    stored = json.loads(path.read_text())
    assert stored["results"]["ratio"]["teacher"] == 1.0
    assert stored["results"]["ratio"]["wall"] == pytest.approx(
        stored["results"]["medians"]["after"]["wall"] / stored["results"]["medians"]["before"]["wall"]
    )
    first, second = stored["results"]["runs"]["before"]
    assert first["rest"] == pytest.approx(first["wall"] - 15.0)
    assert second["teacher"] == 4.0
    made_by = stored["results"]["made_by"]
    assert [made_by[name]["versions"]["torch"] for name in ("before", "after")] == ["before", "after"]
    assert "private" not in path.read_text()


def test_a_failed_run_is_shown(tmp_path: Path, calls: Path) -> None:
    broken = stand_in(tmp_path, "before", None)
    with pytest.raises(SystemExit, match="the disk is full"):
        versions.main(["--before", broken, "--after", broken, "--", "--method", "sre2l"])
    assert len(calls.read_text().splitlines()) == 1


def test_a_missing_installation_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        versions.main(["--before", str(tmp_path / "guard-run"), "--", "--method", "sre2l"])
    assert "name the guard-run of an installation" in capsys.readouterr().err


def test_a_command_in_the_folder_at_hand_is_that_one(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(tmp_path, "guard-run", {"teacher": 4.0})
    monkeypatch.chdir(tmp_path)
    own = ["--before", "guard-run", "--after", "./guard-run"]
    assert versions.main([*own, "--rounds", "1", "--", "sre2l"]) == 0
    assert calls.read_text() == "guard-run sre2l --output\n" * 2
    with pytest.raises(SystemExit):
        versions.main([*own, "--rounds", "0", "--", "sre2l"])
    assert "one round is the least" in capsys.readouterr().err


def test_medians_of_what_all_runs_have() -> None:
    runs = [{"wall": 3.0, "user": 1.0}, {"wall": 1.0, "user": 1.0, "figures": 2.0}, {"wall": 2.0, "user": 9.0}]
    assert versions.medians(runs) == {"wall": 2.0, "user": 1.0}
