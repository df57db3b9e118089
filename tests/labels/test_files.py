"""Stored labels on disk: what they cost, how they are resumed, and what damaged or hostile files do."""

from __future__ import annotations

import json
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from guard_baselines.noise import Noise
from guard_plugins.artifacts.formatting import byte_count
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ArtifactError, TrainingError
from guard_plugins.labels import relabel as stage
from guard_plugins.labels.layout import HEADER, Layout
from guard_plugins.labels.shard import read_card, write_shard
from guard_plugins.labels.store import StoredLabels
from guard_plugins.runtime.signals import StoppedError
from guard_plugins.testing.tiny import tiny_task
from guard_plugins.training.recipes import SRE2L, recipe_of
from tests.labels.conftest import BATCH, IMAGES, RECIPES, World

Worlds = Callable[..., World]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_cost_is_exact(world: Worlds, recipe: str) -> None:
    one = world(recipe)
    folder = one.write()
    layout = Layout.of(recipe_of(one.task.config.student), images=IMAGES, classes=10, size=(8, 8))
    tensors = [tensor for path in folder.iterdir() for tensor in load_file(path).values()]
    assert sum(tensor.nbytes for tensor in tensors) == layout.bytes_of(23)
    files = [path.stat().st_size for path in folder.iterdir()]
    assert 0 < sum(files) - layout.bytes_of(23) < 3 * HEADER
    pattern = r"^(\d+) epochs x (\d+) images x \((\d+) .*? \+ (\d+) of view\).* = ([\d,]+) bytes"
    epochs, images, logits, view, total = (
        int(number.replace(",", "")) for number in re.findall(pattern, layout.cost())[0]
    )
    extra = re.findall(r"\+ (\d+) batches x (\d+)", layout.cost())
    per_batch = sum(int(count) * int(size) for count, size in extra)
    assert total == epochs * images * (logits + view) + per_batch == layout.bytes_of(23)
    assert (epochs, images, logits) == (23, 2 * BATCH, 20)


def test_the_cost_of_the_published_recipe_on_imagenet() -> None:
    layout = Layout.of(SRE2L, images=50_000, classes=1000, size=(224, 224))
    assert layout.cost() == (
        "300 epochs x 49152 images x (2000 bytes of float16 logits + 17 of view) + 14400 batches x 16 "
        "= 29,742,105,600 bytes (29.7 GB)"
    )
    assert layout.shard == 1
    assert byte_count(5) == "5 bytes"


def test_a_disk_without_room_is_refused_before_anything_is_written(
    world: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = world("published")
    need = 23 * 14 * 37 + 46 * 16 + 3 * HEADER
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(need - 1))
    with pytest.raises(ArtifactError, match="The disk has no room for the stored labels in") as caught:
        one.write()
    assert "18.8 kB free, 18.8 kB needed: 23 epochs x 14 images" in caught.value.seen
    assert "--student.epochs" in caught.value.do
    assert not list((one.root / "labels").iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(need))
    one.write()


def test_a_stopped_relabelling_goes_on_at_the_next_shard(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    one = world("cifar")
    whole, original = one.write("whole"), stage.write_shard

    def write_and_stop(*arguments: Any) -> None:
        original(*arguments)
        one.task.keeper.stop.number = 15

    monkeypatch.setattr(stage, "write_shard", write_and_stop)
    with pytest.raises(StoppedError):
        one.write()
    monkeypatch.undo()
    one.task.keeper.stop.number = None
    (first,) = (one.root / "labels").iterdir()
    before = first.stat().st_mtime_ns
    (one.root / "labels" / "epochs-000010.safetensors.part").write_bytes(b"half of it")
    (one.root / "labels" / "epochs-000040.safetensors").write_bytes(b"of more epochs")
    one.write()
    (one.root / "labels" / "epochs-000010.safetensors.part").unlink(missing_ok=True)
    assert first.stat().st_mtime_ns == before
    assert contents(one.root / "labels") == contents(whole)


@pytest.mark.parametrize(
    ("damage", "seen"),
    [
        ("truncated", "SafetensorError"),
        ("one bit", "its numbers do not match their hash"),
        ("swapped", "epoch 0, tensors box"),
        ("of another teacher", "it belongs to other images, another teacher or other settings"),
        ("gone", "2 files of 3; epochs-000010.safetensors is missing"),
    ],
)
def test_a_damaged_shard_is_named_and_only_it_is_labelled_again(world: Worlds, damage: str, seen: str) -> None:
    one = world("published")
    folder, expected = one.write(), contents(one.write("whole"))
    path, other = folder / "epochs-000010.safetensors", folder / "epochs-000000.safetensors"
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[-3] ^= 1
    foreign = one.write("foreign", inputs="y") / path.name
    new = {
        "truncated": data[:-20], "one bit": bytes(flipped), "swapped": other.read_bytes(),
        "of another teacher": foreign.read_bytes(), "gone": None,
    }[damage]  # fmt: skip
    path.unlink() if new is None else path.write_bytes(new)
    with pytest.raises(ArtifactError) as caught:
        StoredLabels(folder, one.distilled.images)
    assert "epochs-000010.safetensors" in str(caught.value)
    assert seen in caught.value.seen
    assert "guard-run --resume" in caught.value.do
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    one.write()
    assert contents(folder) == expected
    assert [name for name, time in before.items() if (folder / name).stat().st_mtime_ns != time] == (
        [] if damage == "gone" else [path.name]
    )


def test_labels_of_other_inputs_are_made_again(world: Worlds) -> None:
    one = world("cifar")
    assert read_card(one.write(inputs="x") / "epochs-000000.safetensors").inputs == "x"
    assert read_card(one.write(inputs="y") / "epochs-000020.safetensors").inputs == "y"
    shorter = world("cifar", epochs=3)
    assert [path.name for path in shorter.write().iterdir()] == ["epochs-000000.safetensors"]


def test_labels_of_another_set_are_refused(world: Worlds) -> None:
    one = world("cifar", epochs=1)
    folder, images = one.write(), one.distilled.images.clone()
    images[3, 0, 2, 2] += 1e-3
    for other in (images, one.distilled.images[:-1], one.distilled.images.view(20, 1, 4, 16)):
        with pytest.raises(ArtifactError, match="belong to other images than the distilled set") as caught:
            StoredLabels(folder, other)
        assert caught.value.exit_code == 2  # what was given is wrong


def test_nothing_to_replay_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ArtifactError, match="There are no stored labels in") as caught:
            StoredLabels(folder, torch.zeros(1, 1, 8, 8))
        assert "--student.labels stored" in caught.value.do
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("scale", [1e6, torch.nan])
def test_logits_that_half_precision_cannot_hold_are_refused(world: Worlds, scale: float) -> None:
    one = world("cifar", epochs=1)
    with torch.no_grad():
        for parameter in one.teacher.parameters():
            parameter.mul_(scale)
    with pytest.raises(TrainingError, match="logits are not finite as float16, in epoch 0"):
        one.write()


HOSTILE: list[tuple[str, Any, str]] = [
    ("logits", lambda t: t.fill_(torch.nan), "logits that are not finite"),
    ("logits", lambda t: t[:, :, :3], "logits is torch.float16 of (2, 7, 3), not torch.float16 of (2, 7, 10)"),
    ("logits", lambda t: t.double(), "logits is torch.float64"),
    ("logits", lambda t: t[:0], "of (0, 7, 10)"),
    ("rows", lambda t: t.fill_(20), "rows outside of 0..19"),
    ("rows", lambda t: t.fill_(-1), "rows outside of 0..19"),
    ("rows", lambda t: t.long(), "rows is torch.int64"),
    ("partner", lambda t: t.fill_(7), "partner outside of 0..6"),
    ("share", lambda t: t.fill_(1.5), "share outside of 0.0..1.0"),
    ("share", lambda t: t.fill_(torch.nan), "share outside of"),
    ("flipped", lambda t: t.byte(), "flipped is torch.uint8"),
    ("window", lambda t: t.fill_(5), "windows that leave the image"),
    ("window", lambda t: t.fill_(0), "windows that leave the image"),
    ("window", lambda t: t.copy_(torch.tensor([1, 1, 32767, 2])), "windows that leave the image"),
    ("window", lambda t: t.copy_(torch.tensor([-1, 0, 4, 4])), "windows that leave the image"),
    ("box", lambda t: t.copy_(torch.tensor([5, 3, 0, 8])), "boxes that leave the image"),
    ("box", lambda t: t.copy_(torch.tensor([0, 9, 0, 8])), "boxes that leave the image"),
]


@pytest.mark.parametrize(("name", "change", "seen"), HOSTILE)
def test_a_stranger_s_numbers_are_looked_at(world: Worlds, name: str, change: Any, seen: str) -> None:
    one = world("published", epochs=1)
    path = one.write() / "epochs-000000.safetensors"
    card, tensors = read_card(path), load_file(path)
    tensors = {key: value.clone() for key, value in tensors.items()}
    tensors[name] = change(tensors[name]).contiguous()
    write_shard(path, card, range(1), tensors)
    with pytest.raises(
        ArtifactError, match=r"epochs-000000\.safetensors is damaged, or does not belong to these stored labels"
    ) as caught:
        StoredLabels(path.parent, one.distilled.images)
    assert seen in caught.value.seen


def test_shifts_beyond_the_recipe_s_are_refused(world: Worlds) -> None:
    one = world("cifar", epochs=1)
    path = one.write() / "epochs-000000.safetensors"
    tensors = {key: value.clone() for key, value in load_file(path).items()}
    tensors["window"].fill_(30_000)  # would pad images to 60,000 pixels a side
    write_shard(path, read_card(path), range(1), tensors)
    with pytest.raises(ArtifactError) as caught:
        StoredLabels(path.parent, one.distilled.images)
    assert "windows shifted by more than 1 pixels" in caught.value.seen


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"epochs": 2**31 - 1, "shard": 1}, "1 files of 2147483647"),
        ({"epochs": 3}, "1 files of 3; epochs-000001.safetensors is missing"),
        ({"batch": 10**6}, "logits is torch.float16 of (2, 7, 10), not torch.float16 of (2, 1000000, 10)"),
        ({"epochs": 10**30}, "ValidationError"),
        ({"epochs": 0}, "ValidationError"),
        ({"epochs": "1"}, "ValidationError"),
        ({"size": [8]}, "ValidationError"),
        ({"size": [8, 10**9]}, "ValidationError"),
        ({"mix": "smudge"}, "ValidationError"),
        ({"dtype": "complex64"}, "ValidationError"),
        ({"surplus": 1}, "ValidationError"),
        ({"window": 2}, "window is torch.int16 of (2, 7, 4)"),
        ({"flips": False}, "tensors box, flipped"),
        (None, "KeyError"),
        ([], "TypeError"),
    ],
)
def test_a_stranger_s_card_is_looked_at(world: Worlds, change: Any, seen: str) -> None:
    one = world("published", epochs=1)
    path = one.write() / "epochs-000000.safetensors"
    card = {**read_card(path).model_dump(mode="json"), **change} if isinstance(change, dict) else change
    about = {} if change is None else {"guard_labels": json.dumps({"card": card, "epoch": 0} if card else card)}
    save_file({key: value.clone() for key, value in load_file(path).items()}, path, metadata=about)
    with pytest.raises(ArtifactError) as caught:
        StoredLabels(path.parent, one.distilled.images)
    assert str(path.parent) in caught.value.what
    assert seen in caught.value.seen


def test_a_deeply_nested_card_is_no_crash(world: Worlds) -> None:
    one = world("published", epochs=1)
    path = one.write() / "epochs-000000.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"guard_labels": "[" * 100_000})
    with pytest.raises(ArtifactError, match=r"epochs-000000\.safetensors is damaged"):
        StoredLabels(path.parent, one.distilled.images)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, bytes]:
    """Labels written once for all examples: their folder, the images, and the bytes of their only file."""
    task = tiny_task(Noise, settings={"student": {"epochs": 1, "batch_size": 4, "cutmix": 1.0}})
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    folder, teacher = tmp_path_factory.mktemp("labels") / "labels", task.network(stage="teacher").eval()
    (path,) = stage.relabel(task, DistilledSet(images, torch.arange(4)), teacher, folder, inputs="x")
    return folder, images, path.read_bytes()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_whatever_happens_to_a_file_is_noticed_and_named(
    written: tuple[Path, torch.Tensor, bytes], data: st.DataObject
) -> None:
    folder, images, whole = written
    start = data.draw(st.integers(0, len(whole)))
    new = whole[:start] + data.draw(st.binary(max_size=40)) + data.draw(st.sampled_from([b"", whole[start + 20 :]]))
    (folder / "epochs-000000.safetensors").write_bytes(new)
    if new != whole:
        with pytest.raises(ArtifactError, match="epochs-000000"):
            StoredLabels(folder, images)
