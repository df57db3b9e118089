"""A new run's folder: what lies there already is named, and never written over."""

from __future__ import annotations

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
