from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from guard_plugins.artifacts.formats import (
    read_any,
    read_dc,
    read_dd_ranking,
    read_sre2l,
    write_dc,
    write_dd_ranking,
    write_parquet,
    write_sre2l,
)
from guard_plugins.artifacts.sets.distilled import save_distilled
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ArtifactError

MEAN, STD = (0.49, 0.48, 0.44), (0.2, 0.19, 0.21)


@pytest.fixture
def distilled() -> DistilledSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((6, 3, 5, 4), generator=generator)
    return DistilledSet(images, torch.arange(3).repeat(2), torch.randn((6, 3), generator=generator))


def test_dc_round_trip_keeps_the_floats(tmp_path: Path, distilled: DistilledSet) -> None:
    write_dc(tmp_path / "res.pt", distilled, mean=MEAN, std=STD)
    raw = torch.load(tmp_path / "res.pt", weights_only=True)
    channel = (distilled.images[:, 1] - MEAN[1]) / STD[1]
    torch.testing.assert_close(raw["data"][0][0][:, 1], channel)
    read = read_dc(tmp_path / "res.pt", mean=MEAN, std=STD)
    torch.testing.assert_close(read.images, distilled.images, atol=1e-6, rtol=0)
    assert torch.equal(read.labels, distilled.labels)


@pytest.mark.parametrize("contrast", [0.0, 0.02, 0.3])
def test_our_dc_files_say_how_they_are_normalised(tmp_path: Path, distilled: DistilledSet, contrast: float) -> None:
    """Images of little contrast, which by their numbers alone could be whitened, or anything."""
    flat = DistilledSet(0.5 + contrast * (distilled.images - 0.5), distilled.labels)
    write_dc(tmp_path / "res.pt", flat, mean=MEAN, std=STD)
    read = read_any(tmp_path / "res.pt", mean=(0.1, 0.1, 0.1), std=(1.0, 1.0, 1.0))
    torch.testing.assert_close(read.images, flat.images, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "said", [[], {"mean": [0.5] * 3}, {"mean": [0.5] * 2, "std": [1.0] * 2}, {"mean": "a", "std": "b"}]
)
def test_a_dc_file_that_says_wrongly_how_it_is_normalised(tmp_path: Path, said: object) -> None:
    pair = [torch.rand(2, 3, 4, 4), torch.tensor([0, 1])]
    torch.save({"data": [pair], "accs_all_exps": {}, "normalised": said}, tmp_path / "res.pt")
    with pytest.raises(ArtifactError, match="says wrongly how its images were normalised"):
        read_dc(tmp_path / "res.pt", mean=MEAN, std=STD)


def test_a_file_as_the_published_code_writes_it(tmp_path: Path) -> None:
    """Several experiments, unclipped images, accuracies as NumPy numbers."""
    sets = [[torch.randn(4, 3, 8, 8) * 3, torch.tensor([0, 0, 1, 1])] for _ in range(2)]
    torch.save({"data": sets, "accs_all_exps": {"ConvNet": [np.float64(28.3)]}}, tmp_path / "res.pt")
    read = read_dc(tmp_path / "res.pt", mean=MEAN, std=STD, experiment=1)
    by_hand = np.clip(sets[1][0][2, 0, 3, 5].item() * STD[0] + MEAN[0], 0, 1)
    assert read.images[2, 0, 3, 5].item() == pytest.approx(by_hand, abs=1e-6)
    with pytest.raises(ArtifactError, match="no experiment 2"):
        read_dc(tmp_path / "res.pt", mean=MEAN, std=STD, experiment=2)


def test_a_file_written_under_numpy_1(tmp_path: Path) -> None:
    content = {"data": [[torch.zeros(1, 3, 4, 4), torch.tensor([0])]], "accs_all_exps": {"ConvNet": [np.float64(28.3)]}}
    torch.save(content, tmp_path / "new.pt")
    with zipfile.ZipFile(tmp_path / "new.pt") as new, zipfile.ZipFile(tmp_path / "old.pt", "w") as old:
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert len(read_dc(tmp_path / "old.pt", mean=MEAN, std=STD).images) == 1


def test_sre2l_round_trip_to_eight_bits(tmp_path: Path, distilled: DistilledSet) -> None:
    write_sre2l(tmp_path, distilled)
    assert (tmp_path / "new002" / "class002_id001.png").exists()
    read = read_sre2l(tmp_path)
    assert torch.equal(read.labels, distilled.labels)
    torch.testing.assert_close(read.images, distilled.as_stored().images)


def test_sre2l_jpegs_in_the_genuine_layout(tmp_path: Path) -> None:
    for label in range(3):
        for copy in range(2):
            path = tmp_path / f"new{label:03d}" / f"class{label:03d}_id{copy:03d}.jpg"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (80 * label, 100, 50 * copy)).save(path)
    read = read_sre2l(tmp_path)
    assert read.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert abs(read.images[2, 0].mean().item() - 160 / 255) < 0.02


def test_dd_ranking_round_trip_with_and_without_soft_labels(tmp_path: Path, distilled: DistilledSet) -> None:
    write_dd_ranking(tmp_path / "soft", distilled)
    soft = read_dd_ranking(tmp_path / "soft")
    assert soft.soft_labels is not None
    assert distilled.soft_labels is not None
    assert torch.equal(soft.soft_labels, distilled.soft_labels)
    write_dd_ranking(tmp_path / "hard", DistilledSet(distilled.images, distilled.labels))
    hard = read_dd_ranking(tmp_path / "hard")
    assert torch.equal(hard.images, distilled.images)
    assert torch.equal(hard.labels, distilled.labels)


def test_any_format_is_recognised(tmp_path: Path, distilled: DistilledSet) -> None:
    write_dc(tmp_path / "res.pt", distilled, mean=MEAN, std=STD)
    write_sre2l(tmp_path / "sre2l", distilled)
    write_dd_ranking(tmp_path / "ddr", DistilledSet(distilled.images, distilled.labels))
    save_distilled(tmp_path / "ours", distilled, ("a", "b", "c"))
    for name in ("res.pt", "sre2l", "ddr", "ours"):
        read = read_any(tmp_path / name, mean=MEAN, std=STD)
        assert torch.equal(read.labels, distilled.labels)
        assert (read.images - distilled.images).abs().max() <= 0.5 / 255 + 1e-6


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1/0",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Evil(), "can be read safely"),
        ([1, 2], "not a file of DC's format"),
        ({"data": []}, "not a file of DC's format"),
        ({"data": [[torch.zeros(2, 3, 4), torch.zeros(2)]]}, "does not hold images"),
        ({"data": [[torch.zeros(2, 3, 4, 4), torch.full((2,), 0.5)]]}, "does not hold whole-number labels"),
        ({"data": [[torch.zeros(2, 3, 4, 4), torch.zeros(3, dtype=torch.long)]]}, "does not hold whole-number labels"),
        ({"data": [[torch.zeros(2, 3, 4, 4), torch.tensor([0, -1])]]}, "must not be negative"),
        ({"data": [[torch.full((1, 3, 4, 4), torch.nan), torch.tensor([0])]]}, "not finite"),
        ({"data": [[torch.zeros(1, 1, 4, 4), torch.tensor([0])]]}, "another number of channels"),
    ],
)
def test_hostile_dc_files_are_refused_with_a_reason(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "res.pt")
    with pytest.raises(ArtifactError, match=message):
        read_any(tmp_path / "res.pt", mean=MEAN, std=STD)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "res.pt").write_bytes(b"not a zip file")
    with pytest.raises(ArtifactError, match="can be read safely"):
        read_any(tmp_path / "res.pt", mean=MEAN, std=STD)
    with pytest.raises(ArtifactError, match="nothing holds no distilled set of a known format"):
        read_any(tmp_path / "nothing", mean=MEAN, std=STD)
    with pytest.raises(ArtifactError, match="not a folder of SRe2L's format"):
        read_sre2l(tmp_path / "nothing")
    (tmp_path / "new000").mkdir()
    (tmp_path / "new000" / "class000_id000.jpg").write_bytes(b"no image")
    with pytest.raises(ArtifactError, match="Cannot read the image"):
        read_sre2l(tmp_path)


def test_sizes_that_differ_and_normalised_images_are_refused(tmp_path: Path) -> None:
    for copy, side in enumerate((4, 5)):
        (tmp_path / "a" / "new000").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side)).save(tmp_path / "a" / "new000" / f"class000_id00{copy}.png")
    with pytest.raises(ArtifactError, match="differ in size"):
        read_sre2l(tmp_path / "a")
    (tmp_path / "b").mkdir()
    torch.save(torch.full((1, 3, 2, 2), 1.5), tmp_path / "b" / "images.pt")
    torch.save(torch.tensor([0]), tmp_path / "b" / "labels.pt")
    with pytest.raises(ArtifactError, match=r"leave \[0, 1\]"):
        read_dd_ranking(tmp_path / "b")


def test_parquet_keeps_logits_and_takes_the_logarithm_of_probabilities(tmp_path: Path, distilled: DistilledSet) -> None:
    assert distilled.soft_labels is not None
    write_parquet(tmp_path / "logits.parquet", distilled, ("a", "b", "c"))
    assert torch.equal(read_any(tmp_path / "logits.parquet", mean=MEAN, std=STD).soft_labels, distilled.soft_labels)
    chances = distilled.soft_labels.softmax(1)
    write_parquet(tmp_path / "chances.parquet", replace(distilled, soft_labels=chances), ("a", "b", "c"))
    read = read_any(tmp_path / "chances.parquet", mean=MEAN, std=STD)
    torch.testing.assert_close(read.soft_labels.softmax(1), chances)
    assert torch.equal(read.labels, distilled.labels)
