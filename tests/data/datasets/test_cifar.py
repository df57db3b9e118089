from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
import torch
import torchvision.datasets

from guard_plugins.data.base import DataRequest
from guard_plugins.data.datasets.cifar import Cifar10, Cifar100
from guard_plugins.data.images import constants
from guard_plugins.errors import DataError

NAMES10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_set(monkeypatch, root, dataset, classes, per_file=20):
    """Writes small batches in the genuine layout and teaches torchvision their checksums."""
    reader = getattr(torchvision.datasets, dataset.reader)
    folder = root / dataset.folder
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    key = "labels" if dataset is Cifar10 else "fine_labels"
    pixels = {}

    def dump(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(name):
        data = random.integers(0, 256, (per_file, 3072), np.uint8)
        labels = [i % len(classes) for i in range(per_file)]
        pixels[name] = data.reshape(-1, 3, 32, 32)
        return dump(name, {"data": data, key: labels})

    monkeypatch.setattr(reader, "train_list", [batch(name) for name, _ in reader.train_list])
    monkeypatch.setattr(reader, "test_list", [batch(name) for name, _ in reader.test_list])
    meta = dict(reader.meta)
    meta["md5"] = dump(meta["filename"], {meta["key"]: classes})[1]
    monkeypatch.setattr(reader, "meta", meta)
    return {name: torch.from_numpy(data) for name, data in pixels.items()}


def test_cifar10_in_its_genuine_layout(tmp_path, monkeypatch):
    pixels = write_set(monkeypatch, tmp_path, Cifar10, NAMES10)
    data = Cifar10().load(DataRequest(root=tmp_path))
    assert (len(data.train), len(data.test), data.image_shape) == (100, 20, (3, 32, 32))
    assert data.classes == tuple(NAMES10)
    assert (data.mean, data.std) == constants.CIFAR10
    expected = torch.cat([pixels[f"data_batch_{i}"] for i in range(1, 6)]).float() / 255
    assert torch.equal(data.train.images(torch.arange(100)), expected)
    assert torch.equal(data.test.images(torch.arange(20)), pixels["test_batch"].float() / 255)
    assert data.test.labels.tolist() == [i % 10 for i in range(20)]


def test_cifar100_reads_the_fine_labels(tmp_path, monkeypatch):
    names = [f"class{i:02}" for i in range(100)]
    write_set(monkeypatch, tmp_path, Cifar100, names, per_file=200)
    data = Cifar100().load(DataRequest(root=tmp_path, train_per_class=1))
    assert data.classes == tuple(names)
    assert data.train.labels.tolist() == list(range(100))
    assert len(data.test) == 200
    assert (data.mean, data.std) == constants.CIFAR100


def test_root_may_be_the_folder_itself(tmp_path, monkeypatch):
    write_set(monkeypatch, tmp_path, Cifar10, NAMES10)
    assert len(Cifar10().load(DataRequest(root=tmp_path / "cifar-10-batches-py")).train) == 100


def test_limits_and_image_size(tmp_path, monkeypatch):
    pixels = write_set(monkeypatch, tmp_path, Cifar10, NAMES10)
    data = Cifar10().load(DataRequest(root=tmp_path, train_per_class=2, test_per_class=1))
    assert data.train.labels.bincount().tolist() == [2] * 10
    assert torch.equal(data.train.images(torch.arange(20)), pixels["data_batch_1"].float() / 255)
    assert Cifar10().load(DataRequest(root=tmp_path, image_size=16)).image_shape == (3, 16, 16)


@pytest.mark.parametrize(("dataset", "folder"), [(Cifar10, "cifar-10-batches-py"), (Cifar100, "cifar-100-python")])
def test_a_missing_set_names_place_and_remedies_and_touches_no_network(tmp_path, monkeypatch, dataset, folder):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("the network was used"))
    with pytest.raises(DataError) as caught:
        dataset().load(DataRequest(root=tmp_path))
    message = str(caught.value)
    assert f"The data set {dataset.name} is not there" in message
    assert f"looked in {tmp_path / folder}" in message
    assert "--download" in message
    assert "--data-root" in message


def test_default_root_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=str(tmp_path / ".cache/guard-plugins/data/cifar-10-batches-py")):
        Cifar10().load(DataRequest())


def test_an_altered_batch_is_refused_before_it_is_unpickled(tmp_path, monkeypatch):
    write_set(monkeypatch, tmp_path, Cifar10, NAMES10)
    (tmp_path / Cifar10.folder / "data_batch_2").write_bytes(b"cposix\nsystem\n(S'false'\ntR.")
    with pytest.raises(DataError, match=r"(?s)checksums differ.*Delete that folder first"):
        Cifar10().load(DataRequest(root=tmp_path))


def test_folders_of_images_are_pointed_to_the_folder_reader(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=f"--dataset folder --data-root {tmp_path}"):
        Cifar10().load(DataRequest(root=tmp_path))


def test_a_failed_download(tmp_path, monkeypatch):
    def offline(self):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", offline)
    with pytest.raises(DataError, match=r"(?s)cifar10 could not be downloaded.*no route to host.*Check the network"):
        Cifar10().load(DataRequest(root=tmp_path, download=True))
