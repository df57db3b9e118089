from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Save = Callable[..., Path]


@pytest.fixture
def save() -> Save:
    """Writes a seeded random image and returns its path."""

    def write(path: Path, size: tuple[int, int] = (6, 6), mode: str = "RGB", seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode).save(path)
        return path

    return write


@pytest.fixture
def tree(tmp_path: Path, save: Save) -> Path:
    """Three classes, four training and two test PNGs of 6x6 pixels each."""
    seed = 0
    for split, count in (("train", 4), ("test", 2)):
        for name in ("ant", "bee", "cat"):
            for i in range(count):
                save(tmp_path / "set" / split / name / f"{i}.png", seed=(seed := seed + 1))
    return tmp_path / "set"


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The folder of real image sets, or a skip."""
    folder = os.environ.get("GUARD_DATA")
    if not folder:
        pytest.skip("GUARD_DATA is not set: it names the folder that holds cifar10/ and tiny-imagenet-200/")
    return Path(folder)
