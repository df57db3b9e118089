"""The benchmarks of reading images print their ratio and leave the process as it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from examples.benchmarks import decode, read_ahead


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_decoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    assert decode.main(["--size", "200", "160", "--side", "32", "--rounds", "1", "--json", str(path)]) == 0
    assert "ratio" in capsys.readouterr().out
    found = json.loads(path.read_text())["results"]
    assert found["ratio"] == found["reduced"] / found["whole"]


def test_reading_ahead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, path = os.sched_getaffinity(0), tmp_path / "found.json"
    asked = ["--batch", "2", "--side", "16", "--photograph", "40", "30", "--steps", "2", "--rounds", "1"]
    if len(before) < 2:
        with pytest.raises(SystemExit):
            read_ahead.main(asked)
        assert "two cores are needed" in capsys.readouterr().err
        return
    assert read_ahead.main([*asked, "--json", str(path)]) == 0
    assert "ratio" in capsys.readouterr().out
    assert os.sched_getaffinity(0) == before
    found = json.loads(path.read_text())["results"]
    assert found["ratio"] == found["together"] / max(found["read"], found["step"])
