"""Sets from anywhere: whatever a file holds or however it is damaged, the answer is a set or one clear message."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from guard_plugins.artifacts.formats import read_any, write_dc, write_parquet, write_sre2l
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import GuardError
from tests.artifacts.formats.conftest import MEAN, STD

DTYPES = (
    torch.float32, torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.bool, torch.uint8,
    torch.int8, torch.int16, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip


def any_tensor(draw: random.Random) -> torch.Tensor:
    shape = draw.choice([(2, 3, 4, 4)] * 5 + [(2,), (2, 5), (), (0, 3, 4, 4), (2, 1, 1, 1), (2, 3, 4)])
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(draw.randrange(2**31))) * 100
    kind = draw.randrange(20)
    if kind == 0:
        return tensor.to_sparse()
    if kind == 1:
        return torch.empty(shape, device="meta")
    if kind == 2:
        return torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(3, 3)])
    if kind == 3:
        return tensor * draw.choice([float("nan"), float("inf"), 1e38])
    return tensor.to(draw.choice(DTYPES))


def anything(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.randrange(7) if depth < 3 else 6
    if kind == 0:
        return [anything(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind == 1:
        return {draw.choice(["data", "images", "labels", 1]): anything(draw, depth + 1) for _ in range(3)}
    if kind == 2:
        return draw.choice([None, 1, 1.5, "a", b"x", True])
    if kind == 3:
        return {"data": [[any_tensor(draw), any_tensor(draw)]]}
    if kind == 4:
        return [any_tensor(draw), torch.tensor([0, 1])]
    return any_tensor(draw)


def read(path: Path) -> None:
    with contextlib.suppress(GuardError):
        read_any(path, mean=MEAN, std=STD)


@pytest.mark.filterwarnings("ignore")
def test_whatever_torch_save_wrote(tmp_path: Path) -> None:
    """100 generated files, some with labels, a learned rate or a whitening's inverse beside them."""
    draw = random.Random(0)
    for _ in range(100):
        path = tmp_path / draw.choice(["set.pt", "images_best.pt", "data.pt"])
        torch.save(anything(draw), path)
        for beside in ("labels_best.pt", "lr_best.pt", "zca.pt"):
            (tmp_path / beside).unlink(missing_ok=True)
            if draw.random() < 0.3:
                torch.save(anything(draw), tmp_path / beside)
        read(path)


@pytest.mark.parametrize("name", ["set.pt", "set.npz", "set.parquet", "new000/class000_id000.png"])
def test_however_a_file_is_damaged(tmp_path: Path, name: str) -> None:
    """60 files of each kind, cut short or with a few bytes changed."""
    draw = random.Random(1)
    images = torch.rand((2, 3, 6, 6), generator=torch.Generator().manual_seed(0))
    distilled = DistilledSet(images, torch.tensor([0, 1]), torch.zeros(2, 2))
    write_dc(tmp_path / "set.pt", distilled, mean=MEAN, std=STD)
    np.savez(tmp_path / "set.npz", images=images.numpy(), labels=np.arange(2))
    write_parquet(tmp_path / "set.parquet", distilled, ("a", "b"))
    write_sre2l(tmp_path, distilled)
    path = tmp_path / name
    whole = path.read_bytes()
    for _ in range(60):
        content = bytearray(whole)
        if draw.random() < 0.3:
            del content[draw.randrange(len(content)) :]
        for _ in range(draw.randrange(1, 5) if content else 0):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(bytes(content))
        read(tmp_path if "/" in name else path)
