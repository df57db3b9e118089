"""Artifacts from strangers: damaged, hostile or absurd files are refused by name, and nothing is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from guard_plugins.artifacts.figures import load_figures
from guard_plugins.artifacts.formats.npz import read_npz
from guard_plugins.artifacts.formats.torch_files import read_torch
from guard_plugins.artifacts.ledger import Ledger, file_hash
from guard_plugins.artifacts.report import read_report
from guard_plugins.artifacts.sets.distilled import load_distilled, load_pngs, save_distilled
from guard_plugins.artifacts.teacher import read_card
from guard_plugins.artifacts.tree import load_outline, load_tree, save_tree
from guard_plugins.artifacts.weights.classes import read_order
from guard_plugins.artifacts.weights.files import read_content
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ArtifactError, ConfigError, GuardError
from guard_plugins.labels.shard import read_card as read_card_of_labels


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A small distilled set on disk."""
    generator = torch.Generator().manual_seed(0)
    distilled = DistilledSet(torch.rand(4, 3, 4, 4, generator=generator), torch.tensor([0, 1, 0, 1]), torch.zeros(4, 2))
    save_distilled(tmp_path / "set", distilled, ["a", "b/../../c"])
    return tmp_path / "set"


def test_a_stored_set_comes_back_exactly(stored: Path) -> None:
    exact, seen = load_distilled(stored), load_pngs(stored)
    assert seen.images.dtype == torch.uint8
    assert torch.equal(seen.as_floats().images, exact.as_stored().images)
    assert exact.labels.tolist() == seen.labels.tolist() == [0, 1, 0, 1]
    assert exact.soft_labels is not None
    assert {path.name for path in stored.iterdir() if path.is_dir()} == {"0_a", "1_b_.._.._c"}


@pytest.mark.parametrize(
    ("tensors", "seen"),
    [
        ({"images": torch.rand(2, 3, 4), "labels": torch.tensor([0, 1])}, "images (2, 3, 4)"),
        ({"images": torch.rand(2, 3, 4, 4), "labels": torch.tensor([0])}, "labels (1,)"),
        ({"images": torch.rand(2, 3, 4, 4), "labels": torch.tensor([0.0, 1.0])}, "labels (2,) torch.float32"),
        ({"images": torch.rand(2, 3, 4, 4), "labels": torch.tensor([0, -1])}, "int64 from 0"),
        ({"images": torch.full((2, 3, 4, 4), torch.nan), "labels": torch.tensor([0, 1])}, "not finite"),
        ({"images": torch.full((2, 3, 4, 4), 2.0), "labels": torch.tensor([0, 1])}, "leave the range [0, 1]"),
        ({"images": torch.zeros(0, 3, 4, 4), "labels": torch.zeros(0, dtype=torch.int64)}, "images (0, 3, 4, 4)"),
        ({"images": torch.rand(2, 3, 4, 4)}, "labels"),
        ({"images": torch.rand(2, 3, 4, 4), "labels": torch.tensor([0, 1]), "extra": torch.zeros(1)}, "extra"),
        (
            {"images": torch.rand(2, 3, 4, 4), "labels": torch.tensor([0, 1]), "soft_labels": torch.zeros(3, 2)},
            "soft labels",
        ),
    ],
)
def test_a_set_that_is_none_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], seen: str) -> None:
    save_file(tensors, tmp_path / "distilled.safetensors")
    with pytest.raises(ArtifactError, match=r"distilled\.safetensors is not a readable distilled set") as caught:
        load_distilled(tmp_path)
    assert seen in caught.value.seen


@pytest.mark.parametrize(
    ("row", "seen"),
    [
        ({"file_name": "../../secret.png", "label": 0}, "leaves the folder"),
        ({"file_name": "/etc/passwd", "label": 0}, "leaves the folder"),
        ({"file_name": "0_a/00009.png", "label": 0}, "FileNotFoundError"),
        ({"file_name": "0_a/00000.png", "label": "many"}, "ValueError"),
        ({"file_name": "0_a/00000.png"}, "KeyError"),
        ({"file_name": "distilled.safetensors", "label": 0}, "UnidentifiedImageError"),
        ([1, 2], "TypeError"),
    ],
)
def test_hostile_metadata_is_refused(stored: Path, row: Any, seen: str) -> None:
    (stored / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ArtifactError, match="is not a readable folder of distilled images") as caught:
        load_pngs(stored)
    assert seen in caught.value.seen


def test_a_decompression_bomb_is_not_unpacked(stored: Path) -> None:
    Image.new("L", (5000, 5000)).save(stored / "0_a" / "00000.png")
    with pytest.raises(ArtifactError) as caught:
        load_pngs(stored)
    assert "claims 5000 x 5000 pixels" in caught.value.seen


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    for name in ("distilled.safetensors", "teacher.safetensors", "state.safetensors"):
        torch.save({"x": Bomb()}, tmp_path / name)
    with pytest.raises(ArtifactError):
        load_distilled(tmp_path)
    with pytest.raises(ArtifactError):
        read_card(tmp_path / "teacher.safetensors")
    with pytest.raises(ArtifactError):
        load_tree(tmp_path / "state.safetensors")
    assert not (tmp_path / "exploded").exists()


@settings(max_examples=70, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_never_end_in_a_traceback(stored: Path, data: st.DataObject) -> None:
    """200 damaged artifacts: each of three kinds, 70 times cut short, overwritten or replaced."""
    save_tree(stored / "state.safetensors", {"x": torch.ones(3), "n": [1, {"a": None}]})
    for path, load in (
        (stored / "distilled.safetensors", lambda: load_distilled(stored)),
        (stored / "metadata.jsonl", lambda: load_pngs(stored)),
        (stored / "state.safetensors", lambda: load_tree(stored / "state.safetensors")),
    ):
        whole = path.read_bytes()
        start = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:start] + data.draw(st.binary(max_size=40)))
        assert str(stored) in _complaint(load, default=str(stored))
        path.write_bytes(whole)


def _complaint(load: Callable[[], object], *, default: str) -> str:
    try:
        load()
    except GuardError as error:
        return str(error)
    return default


@pytest.mark.parametrize("text", ["", "[]", "{", '{"teacher": 5}', '{"teacher": [1]}'])
def test_a_damaged_ledger_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "stages.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"stages\.json is damaged") as caught:
        Ledger(tmp_path / "stages.json")
    assert "Delete it" in caught.value.do


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    from guard_plugins.artifacts.atomic import write_text

    path = tmp_path / "report.json"
    write_text(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="Cannot write") as caught:
        write_text(path, "new")
    assert "No space left on device" in caught.value.seen
    assert "disk space" in caught.value.do
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_missing_teacher_is_a_wrong_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no teacher"):
        read_card(tmp_path / "none.safetensors")


READERS: dict[str, Callable[[Path], Any]] = {
    "the tensors of a set": lambda path: load_distilled(path.parent),
    "a teacher": read_card,
    "a saved state": load_tree,
    "the outline of a state": load_outline,
    "stored labels": read_card_of_labels,
    "figures": load_figures,
    "a foreign checkpoint": read_content,
    "a .pt file": read_torch,
    "a NumPy archive": lambda path: read_npz(path, mean=(0.5,), std=(0.5,)),
    "a list of classes": lambda path: read_order(path, ("a", "b")),
    "a hash": file_hash,
    "results": read_report,
    "stages": Ledger,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_in_place_of_a_file_is_refused_at_once(
    kind: str, reader: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "distilled.safetensors"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(GuardError, match="distilled") as caught:
        reader(path)
    assert "no regular file" in str(caught.value) or "There is no" in str(caught.value)
