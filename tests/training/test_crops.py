"""Boxes cut from the image files: those of torchvision's recipe, the same for any number of processes and any start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from guard_plugins.config import RunConfig
from guard_plugins.data.augment import AREA, ASPECT
from guard_plugins.data.base import DataRequest, Split
from guard_plugins.data.boxes import draw_boxes, draw_numbers
from guard_plugins.data.datasets.folder import Folder
from guard_plugins.data.datasets.imagenet import ImageNet
from guard_plugins.data.validation import Subset, with_validation
from guard_plugins.errors import ConfigError, DataError
from guard_plugins.host import PluginHost
from guard_plugins.host.configure import configure
from guard_plugins.pipeline.preparation import prepare
from guard_plugins.runtime.task import Task
from guard_plugins.testing.tiny import tiny_task
from guard_plugins.training.crops import original_crops
from guard_plugins.training.parts import ALL, Rows
from guard_plugins.training.teacher import train_supervised

SIZES = ((40, 24), (24, 40), (17, 90), (33, 33), (64, 16), (25, 31))
FROM_FILES = {"augment": "resized-crop-flip", "crop_from": "original"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures of many sizes, two classes, no two alike."""
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for number, (width, height) in enumerate(SIZES):
                pixels = generator.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
                picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
                picture.save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def train_split(root: Path, **asked: Any) -> Split:
    return Folder().load(DataRequest(root=root, image_size=16, **asked)).train


def task_of(split: Split, **teacher: Any) -> Task:
    task = tiny_task(PluginHost().method("sre2l"), settings={"teacher": {"batch_size": 5, **FROM_FILES, **teacher}})
    data = replace(task.data, train=split, image_shape=(3, 16, 16), classes=("a", "b"), mean=(0.5,) * 3, std=(0.2,) * 3)
    return replace(task, data=data)


def twin(root: Path, index: Tensor, seed: int) -> Tensor:
    """One image at a time, with Pillow alone; the boxes of all are drawn together, as for images of one size."""
    paths = sorted((root / "train").rglob("*.png"))
    found = []
    for place, number in enumerate(index.tolist()):
        with Image.open(paths[number]) as picture:
            torch.manual_seed(seed)
            boxes = draw_boxes(len(index), (picture.height, picture.width), scale=AREA, ratio=ASPECT)
            top, left, height, width = (int(field[place]) for field in boxes)
            part = picture.convert("RGB").crop((left, top, left + width, top + height))
            pixels = np.asarray(part.resize((16, 16), Image.Resampling.BILINEAR))
        found.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255)
    return torch.stack(found)


def numbers_of(count: int, seed: int) -> Any:
    return draw_numbers(count, scale=AREA, ratio=ASPECT, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("memory", [4.0, 1e-9])
def test_boxes_are_those_of_a_loop_over_the_files(root: Path, memory: float) -> None:
    originals = train_split(root, memory=memory).originals
    assert originals is not None
    index = torch.tensor([3, 0, 11, 7, 2, 9, 1])
    for seed in range(8):
        found = originals.crops(index, numbers_of(7, seed), ASPECT)
        assert found.dtype == torch.float32
        assert torch.equal(found, twin(root, index, seed))


def test_large_jpegs_may_be_decoded_reduced(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:1:301j, 0:1:423j]
    smooth = np.stack([np.sin(3 * rows + k * columns) * 100 + 128 for k in (1, 2, 3)], -1).astype(np.uint8)
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(smooth).save(tmp_path / name / "0.jpg", quality=95)
    whole, reduced = (train_split(tmp_path, reduced_decode=on).originals for on in (False, True))
    assert whole is not None
    assert reduced is not None
    index, numbers = torch.zeros(60, dtype=torch.int64), numbers_of(60, 1)
    gap = (whole.crops(index, numbers, ASPECT) - reduced.crops(index, numbers, ASPECT)).abs().amax((1, 2, 3)) * 255
    assert float(gap.max()) < 12
    assert int((gap > 0).sum()) > 40, "most boxes are at least twice the size that is asked for"


def test_boxes_reach_what_the_central_square_leaves_out(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        stripes = np.zeros((20, 100, 3), np.uint8)
        stripes[:, :30], stripes[:, 70:] = 255, 255  # the central square is black
        Image.fromarray(stripes).save(tmp_path / name / "0.png")
    split = train_split(tmp_path)
    assert split.originals is not None
    assert not split.images(torch.tensor([0])).any()
    found = split.originals.crops(torch.zeros(200, dtype=torch.int64), numbers_of(200, 0), ASPECT)
    seen = found.mean((1, 2, 3))
    assert 0.35 < float(seen.mean()) < 0.85, "three fifths of the picture are white"
    assert float((seen > 0.99).float().mean()) > 0.2


def test_a_part_has_its_own_originals(root: Path) -> None:
    data = Folder().load(DataRequest(root=root, image_size=16))
    kept, numbers = torch.tensor([8, 3, 5]), numbers_of(2, 0)
    part = Subset(data.train, kept).originals
    assert part is not None
    assert data.train.originals is not None
    index = torch.tensor([2, 0])
    assert torch.equal(
        part.crops(index, numbers, ASPECT), data.train.originals.crops(kept[index], numbers, ASPECT)
    )  # fmt: skip
    held = with_validation(data, 1)
    assert held.train.originals is not None
    assert Subset(tiny_task(PluginHost().method("sre2l")).data.train, kept).originals is None


def test_every_process_reads_its_part_of_the_same_batch(root: Path) -> None:
    task, index = task_of(train_split(root)), torch.tensor([4, 9, 0, 11, 6])
    whole = original_crops(task, 5, ALL)
    assert whole is not None
    before = torch.get_rng_state()
    batch = whole(7, index)
    assert torch.equal(torch.get_rng_state(), before), "images are read in a thread, so nothing global may be drawn"
    assert torch.equal(batch, whole(7, index))
    assert not torch.equal(batch, whole(8, index))
    for size in (2, 3):
        for rank in range(size):
            rows = Rows(rank, size, 5)
            read = original_crops(task, 5, rows)
            assert read is not None
            assert torch.equal(read(7, rows.take(index)), rows.take(batch))


def test_half_of_the_boxes_are_mirrored(root: Path) -> None:
    task, index = task_of(train_split(root)), torch.arange(12).repeat(20)
    read = original_crops(task, 240, ALL)
    assert read is not None
    found = read(0, index)
    generator = task.seeds.generator("teacher", "crops", 0)
    numbers = draw_numbers(240, scale=AREA, ratio=ASPECT, generator=generator)
    assert task.data.train.originals is not None
    plain = task.data.train.originals.crops(index, numbers, ASPECT)
    mirrored = (found != plain).flatten(1).any(1)
    assert 90 < int(mirrored.sum()) < 150
    assert torch.equal(found[mirrored], plain[mirrored].flip(-1))


def test_they_train_the_teacher(root: Path) -> None:
    split = train_split(root)

    def weights(**teacher: Any) -> Tensor:
        task = task_of(split, epochs=2, **teacher)
        torch.manual_seed(0)
        model = task.network(stage="teacher")
        train_supervised(task, model)
        return torch.cat([tensor.flatten().float() for tensor in model.state_dict().values()])

    first, again = weights(), weights()
    assert torch.equal(first, again)
    assert not torch.equal(first, weights(crop_from="square"))
    assert all(math.isfinite(value) for value in first.tolist())


def test_a_file_that_breaks_while_training_is_named(root: Path) -> None:
    task = task_of(train_split(root))
    (root / "train" / "b" / "2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"b/2\.png"):
        train_supervised(task, task.network(stage="teacher"))


def refused(settings: Mapping[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        configure("sre2l", **settings)
    return caught.value.what


def test_it_is_refused_where_it_would_do_nothing(root: Path) -> None:
    files = {"dataset": "folder", "data_root": root, "data": {"image_size": 16}}
    configure("sre2l", **files, teacher=FROM_FILES)
    boxless = refused({**files, "teacher": {"augment": "crop-flip", "crop_from": "original"}})
    assert boxless == (
        "--teacher.crop-from would do nothing: the augmentation crop-flip cuts no boxes (--teacher.augment)"
    )
    assert "the data set digits does not read it" in refused({"teacher": FROM_FILES})


def test_published_settings_for_imagenet_cut_from_the_files() -> None:
    def settings(**asked: Any) -> RunConfig:
        return configure("sre2l", **asked)

    assert settings(dataset="imagenet", data_root="x").teacher.crop_from == "original"
    assert settings(dataset="digits", preset="imagenet").teacher.crop_from == "original", "where there are files"
    assert settings(dataset="digits").teacher.crop_from == "square"
    assert "teacher.crop_from" not in ImageNet.ignores


def test_a_foreign_data_set_without_files_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure(
        "sre2l",
        dataset="folder",
        data_root=root,
        data={"image_size": 16},
        teacher={"network": "convnet3-bn", **FROM_FILES},
    )
    load = Folder.load

    def without(self: Folder, request: DataRequest) -> Any:
        data = load(self, request)
        data.train.originals = None
        return data

    monkeypatch.setattr(Folder, "load", without)
    with pytest.raises(ConfigError, match="has no originals to cut boxes from") as caught:
        prepare(config, PluginHost(only=["sre2l"]))
    assert caught.value.do == "Give --teacher.crop-from square."
    boxless = {
        "preset": "imagenet",
        "data": {"image_size": 16},
        "teacher": {"network": "convnet3-bn", "augment": "crop"},
    }
    prepare(configure("sre2l", dataset="folder", data_root=root, **boxless), PluginHost(only=["sre2l"]))
