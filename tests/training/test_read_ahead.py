"""Batches are read while others are computed, and are the same batches."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from guard_plugins.data.base import Split
from guard_plugins.data.images.decode import FULL_RANGE
from guard_plugins.data.images.splits import Files, FileSplit
from guard_plugins.data.images.target import Target
from guard_plugins.data.validation import Subset
from guard_plugins.errors import DataError
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.training.batches import EpochBatches
from guard_plugins.training.read_ahead import AHEAD, ReadAhead


class Slow(Split):
    """Images that take a while, and say in which thread they were read."""

    from_files = True

    def __init__(self, seconds: float) -> None:
        self.labels, self.seconds = torch.arange(100), seconds
        self.threads: list[str] = []

    def images(self, index: Tensor) -> Tensor:
        time.sleep(self.seconds)
        self.threads.append(threading.current_thread().name)
        return index.float().view(-1, 1, 1, 1)


def order(split: Split) -> EpochBatches:
    return EpochBatches(len(split), 7, seeds=Seeds(1), stage="teacher")


@pytest.fixture
def files(tmp_path: Path) -> FileSplit:
    paths = [tmp_path / f"{n}.png" for n in range(20)]
    for n, path in enumerate(paths):
        Image.new("RGB", (4, 4), (n, 2 * n, 3 * n)).save(path)
    return FileSplit(
        Files(tuple(paths), torch.arange(20)), Target(channels=3, height=4, width=4, crop=1.0, levels=FULL_RANGE)
    )


@pytest.mark.parametrize("start", [0, 3])
def test_the_batches_are_those_of_the_order(files: FileSplit, start: int) -> None:
    batches, total = order(files), 8
    with ReadAhead(files, batches.index, total) as ahead:
        for step in range(start, total):
            images, labels = ahead.batch(step)
            index = order(files).index(step)
            assert torch.equal(images, files.images(index))
            assert torch.equal(labels, index)


def test_the_next_batches_are_read_while_one_is_computed() -> None:
    split, total = Slow(0.0), 20
    with ReadAhead(split, order(split).index, total) as ahead:
        for step in range(total):
            ahead.batch(step)  # what follows is the computing of this step
            wanted, until = min(step + 1 + AHEAD, total), time.monotonic() + 60
            while len(split.threads) < wanted and time.monotonic() < until:
                time.sleep(0.001)
            assert len(split.threads) == wanted
    assert {name.split("_")[0] for name in split.threads} == {"read-ahead"}


def test_a_loop_that_ends_early_ends_the_reading() -> None:
    split = Slow(0.01)

    def loop() -> None:
        with ReadAhead(split, order(split).index, 1000) as ahead:
            ahead.batch(0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop()
    assert len(split.threads) <= 1 + AHEAD
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_a_broken_file_is_an_error_of_its_own_step(files: FileSplit) -> None:
    batches = [order(files).index(step).tolist() for step in range(8)]
    left_out = set(range(20)) - {image for batch in batches[:2] for image in batch}
    broken = next(step for step in range(2, 8) if left_out & set(batches[step]))
    image = min(left_out & set(batches[broken]))
    files._paths[image].write_bytes(b"no picture")
    with ReadAhead(files, order(files).index, 8) as ahead:
        for step in range(broken):
            ahead.batch(step)
        with pytest.raises(DataError, match=rf"{image}\.png"):
            ahead.batch(broken)


def test_images_in_memory_are_read_at_once() -> None:
    class Held(Slow):
        from_files = False

    split = Held(0.0)
    with ReadAhead(split, order(split).index, 5) as ahead:
        ahead.batch(0)
    assert split.threads == [threading.current_thread().name]
    assert Subset(Slow(0.0), torch.arange(3)).from_files
    assert not Subset(split, torch.arange(3)).from_files
