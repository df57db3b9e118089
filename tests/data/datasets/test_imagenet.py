from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from guard_plugins.data.base import DataRequest
from guard_plugins.data.datasets.imagenet import IMAGENETTE_CLASSES, ImageNet, Imagenette
from guard_plugins.data.images import constants
from guard_plugins.errors import DataError


@pytest.fixture
def photographs(save):
    """Writes a tree of JPEGs of assorted sizes in the layout of the two sets."""

    def write(folder, wnids):
        for split, count in (("train", 3), ("val", 2)):
            for k, wnid in enumerate(wnids):
                for i in range(count):
                    save(folder / split / wnid / f"{wnid}_{i}.JPEG", size=(40 + 3 * i, 30 + k), seed=10 * k + i)
        return folder

    return write


def test_imagenette_in_its_genuine_layout(tmp_path, photographs):
    photographs(tmp_path / "imagenette2-160", sorted(IMAGENETTE_CLASSES))
    data = Imagenette().load(DataRequest(root=tmp_path, image_size=16))
    assert (len(data.train), len(data.test), data.image_shape) == (30, 20, (3, 16, 16))
    assert data.classes[:3] == ("tench", "English springer", "cassette player")
    assert data.train.labels.tolist() == [k for k in range(10) for _ in range(3)]
    assert (data.mean, data.std) == constants.IMAGENET


def test_imagenette_names_agree_with_torchvision():
    assert {wnid: names[0] for wnid, names in torchvision.datasets.Imagenette._WNID_TO_CLASS.items()} == (
        IMAGENETTE_CLASSES
    )


def test_imagenette_prefers_the_largest_images(tmp_path, photographs):
    photographs(tmp_path / "imagenette2-160", ["n01440764", "n02102040"])
    photographs(tmp_path / "imagenette2", ["n01440764", "n02102040", "n02979186"])
    assert len(Imagenette().load(DataRequest(root=tmp_path, image_size=8)).classes) == 3
    assert len(Imagenette().load(DataRequest(root=tmp_path / "imagenette2-160", image_size=8)).classes) == 2


def test_imagenette_missing(tmp_path):
    with pytest.raises(DataError) as caught:
        Imagenette().load(DataRequest(root=tmp_path))
    assert "The data set imagenette is not there" in str(caught.value)
    assert str(tmp_path / "imagenette2") in str(caught.value)
    assert "--download" in str(caught.value)
    assert "--data-root" in str(caught.value)


def test_imagenette_download_goes_through_torchvision(tmp_path, photographs, monkeypatch):
    def fetch(self):
        photographs(tmp_path / "imagenette2-320", ["n01440764", "n02102040"])

    monkeypatch.setattr(torchvision.datasets.Imagenette, "_download", fetch)
    data = Imagenette().load(DataRequest(root=tmp_path, download=True, image_size=8))
    assert data.classes == ("tench", "English springer")


def test_imagenette_failed_download(tmp_path, monkeypatch):
    def fetch(self):
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(torchvision.datasets.Imagenette, "_download", fetch)
    with pytest.raises(DataError, match=r"(?s)imagenette could not be downloaded.*corrupted.*try again"):
        Imagenette().load(DataRequest(root=tmp_path, download=True))


def test_imagenet_in_its_genuine_layout(tmp_path, photographs):
    photographs(tmp_path, ["n01440764", "n01443537", "n01484850"])
    data = ImageNet().load(DataRequest(root=tmp_path, train_per_class=2))
    assert data.classes == ("n01440764", "n01443537", "n01484850")
    assert (len(data.train), len(data.test), data.image_shape) == (6, 6, (3, 224, 224))
    assert (data.mean, data.std) == constants.IMAGENET


def test_training_images_keep_the_whole_square_and_test_images_seven_eighths(tmp_path):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    for split in ("train", "val"):
        for wnid in ("n01440764", "n01443537"):
            (tmp_path / split / wnid).mkdir(parents=True)
            Image.fromarray(ramp).save(tmp_path / split / wnid / "0.JPEG", quality=100)
    data = ImageNet().load(DataRequest(root=tmp_path, image_size=224))
    row = data.train.images(torch.tensor([0]))[0, 0, 100] * 255
    assert (row[0], row[-1]) == (pytest.approx(0, abs=3), pytest.approx(255, abs=3))
    row = data.test.images(torch.tensor([0]))[0, 0, 100] * 255
    assert torch.allclose(row, torch.arange(16.0, 240.0), atol=3)


def test_imagenet_needs_a_root():
    with pytest.raises(DataError, match=r"(?s)cannot be downloaded.*--data-root"):
        ImageNet().load(DataRequest(download=True))


def test_imagenet_missing(tmp_path):
    with pytest.raises(DataError) as caught:
        ImageNet().load(DataRequest(root=tmp_path))
    assert f"looked in {tmp_path / 'train'}: no class folders, and no archive" in str(caught.value)
    assert "folder that holds train/ and val/" in str(caught.value)


def test_imagenet_archives_are_unpacked_only_on_request(tmp_path, photographs, monkeypatch):
    for split in ("train", "val"):
        (tmp_path / f"ILSVRC2012_img_{split}.tar").touch()
    with pytest.raises(DataError, match=r"(?s)only ILSVRC2012_img_train\.tar.*Pass --download to unpack"):
        ImageNet().load(DataRequest(root=tmp_path))

    class Unpacker:
        def __init__(self, root, split):
            if not (root / "train").exists():
                photographs(root, ["n01440764", "n01443537"])

    monkeypatch.setattr(torchvision.datasets, "ImageNet", Unpacker)
    assert len(ImageNet().load(DataRequest(root=tmp_path, download=True, image_size=8)).train) == 6


def test_imagenet_archives_without_the_development_kit(tmp_path):
    (tmp_path / "ILSVRC2012_img_train.tar").touch()
    with pytest.raises(DataError, match=r"(?s)could not be unpacked.*ILSVRC2012_devkit_t12\.tar\.gz beside it"):
        ImageNet().load(DataRequest(root=tmp_path, download=True))
