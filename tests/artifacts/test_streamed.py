"""Large tensors are written and joined without being held in memory, with the bytes they always had."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guard_plugins.artifacts.sets import streamed
from guard_plugins.artifacts.sets.streamed import joined, pieces, write_streamed
from guard_plugins.artifacts.tensors import write_tensors
from guard_plugins.errors import ArtifactError


def test_a_streamed_file_has_the_bytes_of_the_format_s_own_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamed, "PIECE", 64)
    generator = torch.Generator().manual_seed(1)
    tensors = {
        "images": torch.rand(7, 3, 4, 4, generator=generator), "labels": torch.arange(7),
        "soft_labels": torch.rand(7, 10, generator=generator), "empty": torch.empty(0, 3),
        "student_lr": torch.tensor(0.5, dtype=torch.float64), "bytes": torch.arange(5, dtype=torch.uint8),
    }  # fmt: skip
    write_tensors(tmp_path / "whole.safetensors", tensors)
    write_streamed(tmp_path / "parts.safetensors", {**tensors, "images": tensors["images"].mT.contiguous().mT})
    assert (tmp_path / "parts.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_pieces_are_all_of_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "PIECE", 100)
    tensor = torch.arange(70.0).view(35, 2)
    parts = pieces(tensor)
    assert [len(part) for part in parts] == [12, 12, 11]
    assert torch.equal(torch.cat(list(parts)), tensor)


@pytest.mark.parametrize("held", [0, 2**20])
def test_joined_tensors_are_those_of_cat_in_memory_and_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(streamed, "HELD", held)
    parts = [torch.rand(n, 2, 5, generator=torch.Generator().manual_seed(n)) for n in (3, 1, 4)]
    whole = joined(iter(parts), rows=8, folder=tmp_path / "scratch")
    assert torch.equal(whole, torch.cat(parts))
    assert (tmp_path / "scratch").exists() == (held == 0)
    assert not list(tmp_path.rglob("*.part"))


def test_a_full_disk_is_an_error_before_anything_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(streamed, "HELD", 0)
    monkeypatch.setattr(streamed.os, "posix_fallocate", full, raising=False)
    with pytest.raises(ArtifactError, match=r"Cannot write .*joined\.safetensors\.part") as caught:
        joined([torch.ones(1)], rows=1, folder=tmp_path)
    assert caught.value.seen == "No space left on device"
