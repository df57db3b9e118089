"""Decoded images in a file: the same bits, made once, and refused where they are damaged."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from guard_plugins import configure
from guard_plugins.cli.arguments import parse
from guard_plugins.data.base import Data, DataRequest
from guard_plugins.data.datasets.folder import Folder
from guard_plugins.data.images import packed
from guard_plugins.data.images.packed import PackedSplit
from guard_plugins.errors import ConfigError, DataError
from tests.pipeline.conftest import do_tiny_run


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 5), ("test", 2)):
        for name in "ab":
            folder = tmp_path / "photographs" / split / name
            folder.mkdir(parents=True)
            for n in range(count):
                pixels = random.integers(0, 256, (12 + n, 15, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{n}.jpg")
    return tmp_path / "photographs"


def load(root: Path, **request: Any) -> Data:
    return Folder().load(DataRequest(root=root, image_size=8, **request))


def test_the_images_are_those_that_decoding_gives(photographs: Path, tmp_path: Path) -> None:
    plain, cached = load(photographs), load(photographs, cache=tmp_path / "cache")
    again = load(photographs, cache=tmp_path / "cache")
    index = torch.tensor([7, 0, 9, 0])
    for data in (cached, again):
        assert isinstance(data.train, PackedSplit)
        assert torch.equal(data.train.images(index), plain.train.images(index))
        assert torch.equal(data.test.images(torch.arange(4)), plain.test.images(torch.arange(4)))
        assert torch.equal(data.train.labels, plain.train.labels)
        assert (data.mean, data.std) == (plain.mean, plain.std)


def test_a_file_is_made_once_and_anew_for_other_images(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    inner = packed.decode_all
    monkeypatch.setattr(packed, "decode_all", lambda paths, target: decoded.append(len(paths)) or inner(paths, target))  # type: ignore[func-returns-value]
    cache = tmp_path / "cache"
    load(photographs, cache=cache)
    load(photographs, cache=cache)
    assert decoded == [10, 4]
    assert len(list(cache.iterdir())) == 4  # pixels and sums of both splits, and no part of a file
    path = photographs / "test" / "a" / "0.jpg"
    Image.new("RGB", (15, 12), "red").save(path)
    os.utime(path, (1, 1))
    assert float(load(photographs, cache=cache).test.images(torch.tensor([0]))[0, 0].mean()) > 0.9
    assert decoded == [10, 4, 4]
    Folder().load(DataRequest(root=photographs, image_size=6, cache=cache))
    assert decoded == [10, 4, 4, 10, 4]


def pixels_of(cache: Path, images: int) -> Path:
    (path,) = (one for one in cache.glob("*.npy") if "crc32" not in one.name and len(np.load(one)) == images)
    return path


def test_a_damaged_file_is_named(photographs: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    split = load(photographs, cache=cache).train
    path = pixels_of(cache, 10)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert split.images(torch.arange(9)).shape == (9, 3, 8, 8)  # the others are what they were
    with pytest.raises(DataError, match=rf"(?s)packed images in {path} are damaged.*image 9 .*Delete the file"):
        split.images(torch.tensor([9]))
    with pytest.raises(DataError, match="are damaged"):
        load(photographs, cache=cache)
    path.unlink()
    load(photographs, cache=cache)


@pytest.mark.parametrize("damage", ["truncated", "no sums", "another shape", "pickled", "a folder of nothing"])
def test_a_file_that_is_not_whole_is_made_anew(photographs: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    plain = load(photographs, cache=cache).train.images(torch.arange(10))
    path = pixels_of(cache, 10)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "no sums":
        path.with_suffix(".crc32.npy").unlink()
    elif damage == "another shape":
        np.save(path, np.zeros((10, 3, 4, 4), np.uint8))
    elif damage == "pickled":
        np.save(path, np.array([{}]), allow_pickle=True)
    else:
        shutil.rmtree(cache)
    assert torch.equal(load(photographs, cache=cache).train.images(torch.arange(10)), plain)


def test_what_cannot_be_written_is_an_error(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="Cannot write packed images into"):
        load(photographs, cache=tmp_path / "file")
    full = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda _: full)
    with pytest.raises(DataError, match=r"(?s)do not fit on the disk.*1,920 bytes needed, 100 free"):
        load(photographs, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_link_in_the_folder_is_replaced_not_followed(photographs: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    load(photographs, cache=cache)
    path = pixels_of(cache, 10)
    path.unlink()
    (tmp_path / "target").write_text("mine")
    path.symlink_to(tmp_path / "target")
    load(photographs, cache=cache)
    assert (tmp_path / "target").read_text() == "mine"
    assert not path.is_symlink()


@pytest.mark.slow
def test_a_run_on_packed_images_is_the_same_run(photographs: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "dataset": "folder",
        "data_root": photographs,
        "teacher": {"network": "small-resnet", "epochs": 1, "batch_size": 4},
        "evaluation": {"gate": "off", "protocol": "fgsm", "images": 4},
        "ipc": 1,
    }
    data = {"image_size": 8, "train_per_class": 5, "test_per_class": 2}
    reports = []
    for name, extra in (("plain", {}), ("packed", {"cache": tmp_path / "cache"}), ("decoded", {"memory": 1e-9})):
        report, _ = do_tiny_run(tmp_path / name, "random", data=data | extra, **settings)
        reports.append((tmp_path / name / "teacher.safetensors").read_bytes())
        assert report.models.student is not None
    assert reports[0] == reports[1] == reports[2]


def test_a_resumed_run_takes_both_again(photographs: Path, tmp_path: Path) -> None:
    settings = f"{{method: random, dataset: folder, data_root: {photographs}}}"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(settings)
    for flags in (["--data.cache", str(tmp_path / "cache")], ["--data.memory=2"], ["--teacher.cache", str(tmp_path)]):
        request = parse(["--resume", str(tmp_path / "run"), *flags])
        section, _, name = flags[0].removeprefix("--").partition("=")[0].partition(".")
        assert str(getattr(getattr(request.config, section), name)).startswith(flags[-1].rpartition("=")[2])


def test_memory_beside_a_cache_would_do_nothing(photographs: Path) -> None:
    with pytest.raises(ConfigError, match=r"--data.memory would do nothing: images come from the file in --data.cache"):
        configure("random", dataset="folder", data_root=photographs, data={"cache": "somewhere", "memory": 2})
    with pytest.raises(ConfigError, match=r"--data.cache would do nothing: the data set digits does not read it"):
        configure("random", data={"cache": "somewhere"})
