"""Which numbers are pixels: every known range comes back right, every other is refused with what was found."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from guard_plugins.artifacts.formats import read_any, write_dc
from guard_plugins.artifacts.formats.pixels import neighbour_correlation, to_pixels
from guard_plugins.artifacts.sets.distilled import DistilledSetError
from guard_plugins.data.distilled import DistilledSet
from tests.artifacts.formats.conftest import MEAN, STD, smooth


def read(tmp_path: Path, images: Tensor, labels: Tensor | None = None) -> DistilledSet:
    torch.save({"data": [[images, torch.arange(len(images)) % 3 if labels is None else labels]]}, tmp_path / "res.pt")
    return read_any(tmp_path / "res.pt", mean=MEAN, std=STD)


def normalised(pixels: Tensor) -> Tensor:
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@pytest.mark.parametrize(
    ("stored", "most"),
    [
        (lambda x: (x * 255).round().to(torch.uint8), 0.5 / 255),
        (lambda x: (x * 255).round().to(torch.int64), 0.5 / 255),
        (lambda x: x * 255, 1e-6),
        (lambda x: x * 2 - 1, 1e-6),
        (lambda x: x, 0.0),
        (lambda x: x.double(), 1e-6),
        (lambda x: x.half(), 1e-3),
        (normalised, 1e-6),
    ],
    ids=["bytes", "int64", "0..255", "-1..1", "0..1", "float64", "float16", "normalised"],
)
def test_every_known_range_comes_back_as_pixels(tmp_path: Path, stored, most: float) -> None:
    pixels = smooth()
    found = read(tmp_path, stored(pixels)).images
    assert found.dtype == torch.float32
    assert (found - pixels).abs().max() <= most + 1e-7


ROUNDED = {
    "a little above 1": lambda x: x * (1 + 3e-7),
    "a little below 0": lambda x: x - 1e-7,
    "half precision": lambda x: x.where((x > 0) & (x < 1), x * 1.0006 - 0.0003),
    "a little above 255": lambda x: x * 255.00003,
    "0..255, a little below 0": lambda x: x * 255.002 - 0.001,
    "-1..1, a little outside": lambda x: (x * 2 - 1) * 1.000001,
}


@pytest.mark.parametrize("kind", ROUNDED)
def test_pixels_that_rounding_moved_out_of_their_range_are_cut(tmp_path: Path, kind: str) -> None:
    pixels = smooth()
    found = read(tmp_path, ROUNDED[kind](pixels)).images
    assert (found - pixels).abs().max() <= 4e-4
    assert 0 <= found.min() <= found.max() <= 1


def test_dd_ranking_bears_rounding_too(tmp_path: Path) -> None:
    pixels = smooth()
    torch.save(pixels * (1 + 3e-7) - 1e-7, tmp_path / "images.pt")
    torch.save(torch.zeros(len(pixels), dtype=torch.long), tmp_path / "labels.pt")
    found = read_any(tmp_path, mean=MEAN, std=STD).images
    assert (found - pixels).abs().max() <= 1e-6
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize(
    ("images", "seen"),
    [
        (smooth() * 4095, "numbers from 0 to 4095"),
        (smooth() * 5, "no pixel is negative"),
        (smooth() * 1.4 - 0.3, "deviation is"),
        (smooth() * 1.8 - 0.9, "short of -1 and 1"),
        (smooth() * 255 - 128, "would leave [0, 1]"),
        ((smooth() > 0.5).to(torch.uint8), "must cover 0..255"),
        ((smooth() * 16).round().to(torch.uint8), "must cover 0..255"),
        ((smooth() * 4095).to(torch.int32), "must cover 0..255"),
        ((smooth() * 255).to(torch.int16) - 128, "must cover 0..255"),
    ],
    ids=[
        "12-bit",
        "0..5",
        "wide",
        "within -1..1",
        "shifted bytes",
        "0 and 1",
        "0..16",
        "12-bit integers",
        "signed bytes",
    ],
)
def test_other_ranges_are_refused_with_what_was_found(tmp_path: Path, images: Tensor, seen: str) -> None:
    with pytest.raises(DistilledSetError, match="not in a range that is known") as caught:
        read(tmp_path, images)
    assert seen in caught.value.seen
    assert caught.value.exit_code == 2


def whitening(images: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """ZCA by hand: whitened images, mean, and the inverse of the matrix."""
    flat = images.flatten(1).double()
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    scale = (values.clamp(min=0) + eps).sqrt()
    forward, back = vectors @ torch.diag(1 / scale) @ vectors.T, vectors @ torch.diag(scale) @ vectors.T
    return ((flat - mean) @ forward).view_as(images).float(), mean.float(), back.float()


def natural(count: int) -> Tensor:
    """Images whose spectrum falls off as that of small photographs, in three channels that are alike."""
    generator = torch.Generator().manual_seed(1)
    frequency = torch.fft.fftfreq(16).square()
    amplitude = 1 / (frequency[:, None] + frequency[None, :] + 1 / 256)
    noise = torch.fft.fft2(torch.randn(count, 1, 16, 16, generator=generator))
    grey = torch.fft.ifft2(noise * amplitude).real
    images = grey + 0.3 * grey.std() * torch.randn(count, 3, 1, 1, generator=generator)
    return ((images - images.mean()) / images.std() * 0.22 + 0.47).clamp(0, 1)


@pytest.mark.parametrize("eps", [0.1, 0.01, 0.001])
def test_whitened_images_are_not_read_as_pixels(tmp_path: Path, eps: float) -> None:
    whitened, _, _ = whitening(natural(2000), eps)
    assert neighbour_correlation(whitened) < 0.75 < neighbour_correlation(natural(200))
    with pytest.raises(DistilledSetError, match=r"seem to be whitened \(ZCA\)") as caught:
        read(tmp_path, whitened[:20])
    assert "zca.pt" in caught.value.do


def test_whitening_is_undone_with_its_inverse(tmp_path: Path) -> None:
    pixels = natural(400)
    whitened, mean, inverse = whitening(pixels, 0.1)
    for names in ({"mean": mean, "inverse": inverse}, {"mean_vector": mean[None], "transform_inv": inverse}):
        torch.save(names, tmp_path / "zca.pt")
        assert (read(tmp_path, whitened[:20]).images - pixels[:20]).abs().max() < 1e-4
    torch.save({"mean": mean}, tmp_path / "zca.pt")
    with pytest.raises(DistilledSetError, match="does not hold the inverse of a whitening"):
        read(tmp_path, whitened[:20])


def test_noise_in_normalised_space_is_no_whitened_image(tmp_path: Path) -> None:
    noise = torch.randn(10, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert len(read(tmp_path, noise).images) == 10


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scale=st.floats(0.01, 500), shift=st.floats(-300, 300), seed=st.integers(0, 50))
def test_whatever_the_range_nothing_is_silently_white(scale: float, shift: float, seed: int) -> None:
    """Any linear change of the pixels is either undone to [0, 1] with few pixels at its ends, or refused."""
    images = smooth(seed=seed) * scale + shift
    pixels = torch.full((1,), 0.5)
    with contextlib.suppress(DistilledSetError):
        pixels = to_pixels(images, Path("x.pt"), mean=MEAN, std=STD)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert ((pixels == 0) | (pixels == 1)).float().mean() <= 0.5


@pytest.mark.parametrize(
    ("images", "seen"),
    [
        (torch.zeros(2, 3, 4, 4, device="meta"), "without data (a meta tensor)"),
        (torch.rand(2, 3, 4, 4).to_sparse(), "sparse"),
        (torch.quantize_per_tensor(torch.rand(2, 3, 4, 4), 0.1, 0, torch.quint8), "quantised"),
        (torch.rand(2, 3, 4, 4).to(torch.complex64), "complex"),
        (torch.rand(1, 3, 1, 1).expand(2, 3, 4000, 4000), "a view that repeats its data"),
        (torch.rand(1, 3, 1, 1).expand(20000, 3, 4000, 4000), "a view that repeats its data"),
        (torch.rand(2, 3, 4, 4) > 0.5, "images of numbers"),
    ],
    ids=["meta", "sparse", "quantised", "complex", "expanded", "expanded without end", "bool"],
)
def test_unusual_tensors_get_one_clear_message(tmp_path: Path, images: Tensor, seen: str) -> None:
    with pytest.raises(DistilledSetError) as caught:
        read(tmp_path, images, torch.tensor([0, 1]))
    # PyTorch's safe reader refuses some kinds before they can be looked at.
    assert seen in str(caught.value) or "can be read safely" in str(caught.value)
    assert str(tmp_path / "res.pt") in str(caught.value)


@pytest.mark.parametrize(
    "labels",
    [
        torch.zeros(6, dtype=torch.long, device="meta"),
        torch.zeros(6, dtype=torch.complex64),
        torch.zeros(6, dtype=torch.bool),
        torch.zeros(1, dtype=torch.long).expand(6),
        torch.zeros(6, 3, device="meta"),
        torch.full((6, 3), torch.nan),
        torch.zeros(5, 3),
        torch.full((6, 1), 0.5),
        "classes",
    ],
    ids=["meta", "complex", "bool", "expanded", "meta soft", "NaN", "too few", "one class", "text"],
)
def test_unusual_labels_get_one_clear_message(tmp_path: Path, labels: Tensor) -> None:
    with pytest.raises(DistilledSetError, match=r"res\.pt"):
        read(tmp_path, smooth(), labels)


def test_writing_and_reading_dc_is_exact_up_to_rounding(tmp_path: Path, photographs: DistilledSet) -> None:
    write_dc(tmp_path / "res.pt", photographs, mean=MEAN, std=STD)
    found = read_any(tmp_path / "res.pt", mean=MEAN, std=STD)
    assert (found.images - photographs.images).abs().max() <= 2e-7
    assert torch.equal(found.labels, photographs.labels)
