"""Image files that cannot be read stop a run with their name, or are left out and counted when asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from guard_plugins.artifacts.report import Skipped
from guard_plugins.data.base import DataRequest
from guard_plugins.data.datasets.folder import Folder
from guard_plugins.data.datasets.imagenet import ImageNet, Imagenette
from guard_plugins.data.datasets.tiny_imagenet import TinyImageNet
from guard_plugins.errors import DataError
from tests.data.conftest import Save


def cut(path: Path) -> Path:
    """Cut a file off in the middle of its pixels, as a broken download does."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.fixture
def photographs(tmp_path: Path, save: Save) -> Path:
    """Two classes of JPEGs, four to train on and two to test on, in the layout of ImageNet and of folders."""
    for split, count in (("train", 4), ("val", 2)):
        for k, wnid in enumerate(("n01440764", "n02102040")):
            for i in range(count):
                save(tmp_path / "imagenette2" / split / wnid / f"{i}.JPEG", size=(40, 32), seed=10 * k + i)
    return tmp_path / "imagenette2"


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("reader", [Folder, ImageNet, Imagenette])
def test_damaged_jpegs_stop_a_reader_or_are_left_out(photographs: Path, reader: type[Folder], in_memory: bool) -> None:
    request = DataRequest(root=photographs, image_size=16, skip_corrupt=True, memory=1 if in_memory else 0)
    whole = reader().load(request)
    assert whole.skipped == ()
    broken = [
        cut(photographs / "train" / "n01440764" / "2.JPEG"),
        photographs / "train" / "n02102040" / "0.JPEG",
        cut(photographs / "val" / "n02102040" / "1.JPEG"),
    ]
    broken[1].write_text("<html>404</html>")
    left = reader().load(request)
    assert left.skipped == tuple(map(str, broken))
    assert left.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert left.test.labels.tolist() == [0, 0, 1]
    sound = [0, 1, 3, 5, 6, 7]
    assert torch.equal(left.train.images(torch.arange(6)), whole.train.images(torch.tensor(sound)))
    if in_memory:
        with pytest.raises(DataError, match="cannot be read") as caught:
            reader().load(DataRequest(root=photographs, image_size=16))
        assert any(str(path) in str(caught.value) for path in broken)


def test_raw_tiny_imagenet(tmp_path: Path, save: Save) -> None:
    root = tmp_path / "tiny-imagenet-200"
    for wnid in ("n01", "n02"):
        for i in range(2):
            save(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", size=(64, 64))
    for i, _ in enumerate(("n01", "n02", "n02")):
        save(root / "val" / "images" / f"val_{i}.JPEG", size=(64, 64))
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01\nval_1.JPEG\tn02\nval_2.JPEG\tn02\n")
    (root / "wnids.txt").write_text("n01\nn02")
    first, second = cut(root / "train" / "n02" / "images" / "n02_0.JPEG"), root / "val" / "images" / "val_1.JPEG"
    second.unlink()
    data = TinyImageNet().load(DataRequest(root=root, skip_corrupt=True))
    assert data.skipped == (str(first), str(second))
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 0, 1], [0, 1])


def test_a_class_that_loses_all_its_images_is_an_error(photographs: Path) -> None:
    for path in (photographs / "val" / "n02102040").iterdir():
        cut(path)
    with pytest.raises(DataError, match=r"No image of class 'n02102040' in .*val/n02102040 can be read") as caught:
        Folder().load(DataRequest(root=photographs, image_size=16, skip_corrupt=True))
    assert "2 of 4 files are broken" in caught.value.seen


def test_limits_count_before_files_are_skipped(photographs: Path) -> None:
    cut(photographs / "train" / "n01440764" / "0.JPEG")
    request = DataRequest(root=photographs, image_size=16, train_per_class=2, skip_corrupt=True)
    assert Folder().load(request).train.labels.tolist() == [0, 1, 1]


def test_the_first_are_named_and_the_others_counted() -> None:
    assert Skipped.of(()) is None
    few, many = Skipped.of(["a", "b"]), Skipped.of([*"abcdefg"])
    assert few is not None
    assert few.sentence() == "skipped 2 images that cannot be read: a, b"
    assert many is not None
    assert many.sentence() == "skipped 7 images that cannot be read: a, b, c, d, e and 2 more"


@pytest.mark.slow
def test_the_summary_and_the_report_say_what_was_skipped(
    tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from guard_plugins.cli.run import main

    path, folder = cut(tree / "train" / "bee" / "2.png"), tmp_path / "run"
    arguments = [
        "--method", "random", "--dataset", "folder", "--data-root", str(tree), "--ipc", "1", "--output", str(folder),
        "--teacher.network", "small-resnet", "--teacher.epochs", "1", "--teacher.augment", "none",
        "--student.epochs", "1", "--student.augment", "none", "--data.image-size", "8",
    ]  # fmt: skip
    assert main(arguments) == 2
    assert f"The image {path} cannot be read" in capfd.readouterr().err
    assert main([*arguments, "--data.skip-corrupt"]) == 0
    told = f"skipped 1 images that cannot be read: {path}"
    assert capfd.readouterr().err.count(told) == 2, "when the run begins and when it ends"
    assert json.loads((folder / "report.json").read_text())["skipped"] == {"count": 1, "first": [str(path)]}
    assert told in (folder / "report.md").read_text()
