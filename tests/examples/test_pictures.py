"""The documents' pictures: what is shown is what a run printed, and all together stay small."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from examples import pictures
from guard_plugins.artifacts.report import read_report
from tests.report.folders import NAMES, write_run

ROOT = Path(__file__).parents[2]


def test_the_terminal_shows_the_numbers_of_the_run(tmp_path: Path) -> None:
    report = read_report(write_run(tmp_path / "run") / "report.json")
    page = pictures.terminal_page(report, command="guard-run sre2l", names=NAMES)
    assert "$ guard-run sre2l\n" in page
    assert "under PGD-20 at radius ε" in page
    assert "90.0    80.0    60.0     30.0" in page


def test_a_site_that_was_not_built_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    (tmp_path / "chromium").write_text("#!/bin/sh\n")
    (tmp_path / "chromium").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert pictures.main([str(run), str(tmp_path / "site"), "--output", str(tmp_path)]) == 2
    assert "sphinx-build docs build/docs" in capsys.readouterr().err


def test_without_a_browser_it_says_what_it_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert pictures.main([str(tmp_path), str(tmp_path), "--output", str(tmp_path)]) == 2
    assert "looked for chromium" in capsys.readouterr().err


def test_the_pictures_are_there_and_small() -> None:
    found = [ROOT / "docs" / "images" / f"{name}.png" for name in ("terminal", "report", "report-phone", "docs")]
    assert sum(path.stat().st_size for path in found) <= pictures.MOST_BYTES
    with Image.open(found[2]) as phone:
        assert phone.width == pictures.PHONE
