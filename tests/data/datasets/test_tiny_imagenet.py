from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from guard_plugins.data.base import DataRequest
from guard_plugins.data.datasets.folder import Folder
from guard_plugins.data.datasets.tiny_imagenet import TinyImageNet
from guard_plugins.data.images import constants
from guard_plugins.errors import DataError

WNIDS = ["n02124075", "n01443537", "n07920052"]  # in no order, as in the genuine file
ORDER = sorted(WNIDS)
VAL = [("val_10.JPEG", "n07920052"), ("val_2.JPEG", "n01443537"), ("val_0.JPEG", "n02124075")]


@pytest.fixture
def raw(tmp_path, save):
    root = tmp_path / "tiny-imagenet-200"
    for k, wnid in enumerate(WNIDS):
        for i in range(2):
            save(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", size=(64, 64), seed=10 * k + i)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t63\n")
    for k, (name, _) in enumerate(VAL):
        save(root / "val" / "images" / name, size=(64, 64), mode="L" if k == 0 else "RGB", seed=100 + k)
    (root / "val" / "val_annotations.txt").write_text("".join(f"{name}\t{wnid}\t0\t0\t62\t63\n" for name, wnid in VAL))
    (root / "wnids.txt").write_text("\n".join(WNIDS))
    save(root / "test" / "images" / "test_0.JPEG", size=(64, 64))
    return root


def test_raw_layout_equals_a_naive_reader(raw):
    data = TinyImageNet().load(DataRequest(root=raw))
    assert data.classes == tuple(ORDER)
    assert data.image_shape == (3, 64, 64)
    assert (data.mean, data.std) == constants.TINY_IMAGENET
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    by_name = sorted(VAL)
    assert data.test.labels.tolist() == [ORDER.index(wnid) for _, wnid in by_name]
    for i, (name, _) in enumerate(by_name):
        expected = np.array(Image.open(raw / "val" / "images" / name).convert("RGB")).transpose(2, 0, 1)
        assert torch.equal(data.test.images(torch.tensor([i]))[0], torch.from_numpy(expected).float() / 255)


def test_root_may_be_the_parent(raw):
    assert len(TinyImageNet().load(DataRequest(root=raw.parent)).train) == 6


def test_limits_and_image_size(raw):
    data = TinyImageNet().load(DataRequest(root=raw, train_per_class=1, test_per_class=1, image_size=32))
    assert (len(data.train), len(data.test), data.image_shape) == (3, 3, (3, 32, 32))


def message_of(root) -> str:
    with pytest.raises(DataError) as caught:
        TinyImageNet().load(DataRequest(root=root))
    return str(caught.value)


def test_missing(tmp_path):
    message = message_of(tmp_path)
    assert f"looked in {tmp_path / 'tiny-imagenet-200'}: no wnids.txt" in message
    assert "--data-root" in message
    assert "tiny-imagenet-200.zip" in message


def test_no_annotations(raw):
    (raw / "val" / "val_annotations.txt").unlink()
    message = message_of(raw)
    assert f"{raw / 'val' / 'val_annotations.txt'} cannot be read" in message
    assert "Unpack tiny-imagenet-200.zip anew" in message


def test_annotations_naming_a_foreign_class(raw):
    (raw / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn99999999\t0\t0\t1\t1\n")
    assert "1 lines, such as 'val_0.JPEG n99999999 0 0 1 1'" in message_of(raw)


def test_empty_annotations(raw):
    (raw / "val" / "val_annotations.txt").write_text("")
    assert "the file is empty" in message_of(raw)


def test_a_class_without_images(raw):
    for path in (raw / "train" / "n01443537" / "images").iterdir():
        path.unlink()
    message = message_of(raw)
    assert f"{raw / 'train' / 'n01443537' / 'images'} holds no images" in message
    assert "1 of the 3 classes" in message


def test_an_annotated_image_that_is_missing(raw):
    (raw / "val" / "images" / "val_2.JPEG").unlink()
    assert f"{raw / 'val' / 'images' / 'val_2.JPEG'} cannot be read" in message_of(raw)


def test_the_folder_reader_refuses_the_raw_layout(raw):
    with pytest.raises(DataError, match=f"--dataset tiny-imagenet --data-root {raw}"):
        Folder().load(DataRequest(root=raw))


@pytest.mark.images
@pytest.mark.slow
def test_real_tiny_imagenet(real_images):
    if not (real_images / "tiny-imagenet-200").is_dir():
        pytest.skip(f"there is no tiny-imagenet-200/ in GUARD_DATA={real_images}")
    data = TinyImageNet().load(DataRequest(root=real_images, train_per_class=20, test_per_class=5))
    assert data.train.labels.bincount().tolist() == [20] * 200
    assert data.test.labels.bincount().tolist() == [5] * 200
    assert data.image_shape == (3, 64, 64)
    pixels = data.train.images(torch.arange(4000))
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(list(data.mean), abs=0.01)
