"""The notebook runs from its first cell to its last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples/quickstart.ipynb"


def cells(kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def test_no_output_is_stored_with_it() -> None:
    assert not any(cell.get("outputs") for cell in json.loads(NOTEBOOK.read_text())["cells"])
    assert cells("markdown")[0].startswith("# Quickstart")


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in cells("code"):
        exec(compile(code, str(NOTEBOOK), "exec"), names)  # the notebook's own code
    said = capsys.readouterr().out
    assert "torch.Size([100, 1, 8, 8])" in said
    assert "no hook  clean" in said
    assert "regularised steps" in said
    assert "<table>" in names["hook"]._repr_html_()
    assert names["hook"].models.student.clean > 0.8
