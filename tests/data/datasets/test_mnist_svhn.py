from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets

from guard_plugins.data.base import DataRequest
from guard_plugins.data.datasets.mnist import FashionMnist, Mnist
from guard_plugins.data.datasets.svhn import Svhn
from guard_plugins.data.images import constants
from guard_plugins.errors import DataError


def write_idx(folder, part, count):
    """The two IDX files of one split, as the sets are distributed; returns what was written."""
    random = np.random.default_rng(count)
    pixels, labels = random.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())
    return pixels


@pytest.mark.parametrize(("dataset", "statistics"), [(Mnist, constants.MNIST), (FashionMnist, constants.FASHION_MNIST)])
def test_idx_files(tmp_path, dataset, statistics):
    pixels = write_idx(tmp_path / dataset.folder / "raw", "train", 60)
    write_idx(tmp_path / dataset.folder / "raw", "t10k", 20)
    data = dataset().load(DataRequest(root=tmp_path, train_per_class=3))
    assert (len(data.train), len(data.test), data.image_shape, len(data.classes)) == (30, 20, (1, 28, 28), 10)
    assert torch.equal(data.train.images(torch.arange(30))[:, 0], torch.from_numpy(pixels[:30]).float() / 255)
    assert (data.mean, data.std) == statistics
    assert dataset().load(DataRequest(root=tmp_path / dataset.folder, image_size=8)).image_shape == (1, 8, 8)
    raw = tmp_path / dataset.folder / "raw" / "train-images-idx3-ubyte"
    raw.write_bytes(raw.read_bytes()[:1000])
    with pytest.raises(DataError, match=f"The data set {dataset.name} is not there"):
        dataset().load(DataRequest(root=tmp_path))


def test_svhn(tmp_path, monkeypatch):
    random, checked = np.random.default_rng(0), {}
    (tmp_path / "svhn").mkdir()
    for part, count in (("train", 40), ("test", 20)):
        file = tmp_path / "svhn" / f"{part}_32x32.mat"
        pixels = random.integers(0, 256, (32, 32, 3, count), np.uint8)
        scipy.io.savemat(file, {"X": pixels, "y": np.arange(1, count + 1)[:, None] % 10 + 1})
        checked[part] = ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", checked)
    data = Svhn().load(DataRequest(root=tmp_path))
    assert (len(data.train), len(data.test), data.image_shape) == (40, 20, (3, 32, 32))
    assert (data.mean, data.std) == constants.SVHN
    assert int(data.train.labels.min()) == 0
    assert int(data.train.labels.max()) == 9, "the digit 0 is stored as 10"
    assert torch.equal(
        data.test.images(torch.tensor([3]))[0] * 255, torch.from_numpy(pixels[..., 3]).permute(2, 0, 1).float()
    )
    (tmp_path / "svhn" / "test_32x32.mat").write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)The data set svhn is not there.*checksum"):
        Svhn().load(DataRequest(root=tmp_path))


@pytest.mark.parametrize("dataset", [Mnist, FashionMnist, Svhn])
def test_missing_files_and_options_that_do_not_apply(tmp_path, dataset):
    with pytest.raises(DataError, match=r"(?s)is not there.*--download"):
        dataset().load(DataRequest(root=tmp_path))
    with pytest.raises(DataError, match=r"(?s)has no use for --data\.split.*Leave it out"):
        dataset().load(DataRequest(root=tmp_path, split=0.2))
    with pytest.raises(DataError, match=r"has no use for --data\.range"):
        dataset().load(DataRequest(root=tmp_path, range=(0, 4095)))
