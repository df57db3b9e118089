"""Files and numbers of a method's own: whole, hashed, and only those of the same settings."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from guard_plugins.errors import ConfigError, DamagedError, TrainingError
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keepsakes import Keepsakes


def keepsakes(root: Path | None, *inputs: str) -> Keepsakes:
    checkpoints = Checkpoints(None, every=1e9)
    for fingerprint in inputs:
        checkpoints.inputs = fingerprint
    return Keepsakes(root, checkpoints)


@pytest.mark.parametrize("disk", [True, False])
def test_what_is_saved_comes_back_as_it_was(disk: bool, tmp_path: Path) -> None:
    root = tmp_path / "files" if disk else None
    folder = keepsakes(root, "a").folder("experts")
    weight = torch.rand(3, requires_grad=True)
    folder.save("expert-1", {"weight": weight, "steps": [1, 2], "note": None})
    folder.save("expert-0", {})
    weight.data.zero_()
    assert list(folder) == ["expert-0", "expert-1"]
    found = folder.load("expert-1")
    assert (found["steps"], found["note"], found["weight"].requires_grad) == ([1, 2], None, False)
    assert found["weight"].all()
    assert "expert-2" not in folder
    with pytest.raises(KeyError):
        folder.load("expert-2")


def test_only_what_was_saved_under_the_same_settings_counts(tmp_path: Path) -> None:
    keepsakes(tmp_path, "a").folder("experts").save("x", 1)
    assert "x" in keepsakes(tmp_path, "a").folder("experts")
    assert "x" in keepsakes(tmp_path, "a", "b").folder("experts")  # a later stage of the same run
    other = keepsakes(tmp_path, "b")
    assert "x" not in other.folder("experts")
    other.folder("experts").save("y", 2)
    assert [path.name for path in keepsakes(tmp_path, "b").files()] == ["y.safetensors"]


def test_a_damaged_or_missing_file_is_noticed(tmp_path: Path) -> None:
    keepsakes(tmp_path, "a").folder("experts").save("x", torch.rand(4))
    path = tmp_path / "experts" / "x.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"x\.safetensors is damaged"):
        keepsakes(tmp_path, "a").folder("experts").load("x")
    path.unlink()
    assert "x" not in keepsakes(tmp_path, "a").folder("experts")
    (tmp_path / "experts" / "index.json").write_text("[")
    with pytest.raises(DamagedError):
        keepsakes(tmp_path, "a").folder("experts")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 101, "a\0"])
def test_names_that_are_no_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be the name"):
        keepsakes(tmp_path).folder(name)
    with pytest.raises(ConfigError, match="cannot be the name"):
        keepsakes(tmp_path).folder("experts").save(name, 1)


def test_numbers_are_finite_and_the_last_counts() -> None:
    kept = keepsakes(None)
    kept.report({"loss": torch.tensor(2.0), "count": 3})
    kept.report({"loss": 1})
    assert kept.numbers == {"loss": 1.0, "count": 3.0}
    with pytest.raises(TrainingError, match="reported loss = nan"):
        kept.report({"loss": math.nan})
