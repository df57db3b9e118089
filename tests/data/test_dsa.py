from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from guard_plugins.data.dsa import PUBLISHED_STRATEGY, SiameseStrength, parse_strategy, siamese_augment
from guard_plugins.errors import ConfigError

OPERATIONS = PUBLISHED_STRATEGY.split("_")
SEEDS = range(12)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(5, 3, 8, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Draws:
    """The numbers an operation draws, in its order, after the one that chose the operation."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        torch.randint(1, (), generator=self.generator)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator, dtype=torch.float64).item()

    def integer(self, low: int, high: int) -> int:
        return torch.randint(low, high + 1, (), generator=self.generator).item()


def naive_color(image, draws):
    image = image + draws.uniform(-0.5, 0.5)
    saturation, contrast = draws.uniform(0, 2), draws.uniform(0.5, 1.5)
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            grey = image[:, row, column].mean()
            image[:, row, column] = grey + (image[:, row, column] - grey) * saturation
    return image.mean() + (image - image.mean()) * contrast


def naive_crop(image, draws):
    _, height, width = image.shape
    down, right = draws.integer(-1, 1), draws.integer(-1, 1)  # 8 * .125 and 10 * .125, rounded
    out = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row + down < height and 0 <= column + right < width:
                out[:, row, column] = image[:, row + down, column + right]
    return out


def naive_cutout(image, draws):
    out = image.copy()
    centre = (draws.integer(0, 8), draws.integer(0, 10 - 1))  # even side 4: one more place than odd side 5
    for row in range(centre[0] - 2, centre[0] + 2):
        for column in range(centre[1] - 2, centre[1] + 3):
            if 0 <= row < 8 and 0 <= column < 10:
                out[:, row, column] = 0
    return out


def naive_flip(image, draws):
    return image[:, :, ::-1] if draws.uniform(0, 1) < 0.5 else image


def naive_scale(image, draws):
    across, down = draws.uniform(1 / 1.2, 1.2), draws.uniform(1 / 1.2, 1.2)
    return sample(image, lambda x, y: (across * x, down * y))


def naive_rotate(image, draws):
    angle = math.radians(draws.uniform(-15, 15))
    cos, sin = math.cos(angle), math.sin(angle)
    return sample(image, lambda x, y: (cos * x - sin * y, sin * x + cos * y))


def sample(image, where):
    """Bilinear interpolation by hand; the corner pixels' centres are at +-1, and everything outside is 0."""
    _, height, width = image.shape
    out = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            x, y = where(2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1)
            across, down = (x + 1) * (width - 1) / 2, (y + 1) * (height - 1) / 2
            for i in (math.floor(down), math.floor(down) + 1):
                for j in (math.floor(across), math.floor(across) + 1):
                    if 0 <= i < height and 0 <= j < width:
                        share = (1 - abs(down - i)) * (1 - abs(across - j))
                        out[:, row, column] += share * image[:, i, j]
    return out


NAIVE = {
    "color": naive_color, "crop": naive_crop, "cutout": naive_cutout,
    "flip": naive_flip, "scale": naive_scale, "rotate": naive_rotate,
}  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_equals_its_naive_twin(images, name, seed):
    ours = siamese_augment(images, name, seed=seed)
    for image, out in zip(images, ours, strict=True):
        twin = NAIVE[name](image.numpy().copy(), Draws(seed)).copy()
        assert torch.allclose(out, torch.from_numpy(twin), atol=1e-9)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_do_something_and_depend_on_the_seed(images, name):
    outcomes = [siamese_augment(images, name, seed=seed) for seed in range(30)]
    assert any(not torch.allclose(out, images) for out in outcomes)
    assert any(not torch.allclose(out, outcomes[0]) for out in outcomes)


@pytest.mark.parametrize("seed", range(20))
def test_two_batches_get_the_same_operation_and_parameters(images, seed):
    together = siamese_augment(images, seed=seed)
    apart = [siamese_augment(part, seed=seed) for part in (images[:2], images[2:])]
    assert torch.allclose(torch.cat(apart), together)


def test_every_operation_of_the_strategy_is_chosen(images):
    chosen = set()
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        chosen.add(int(torch.randint(6, (), generator=generator)))
        expected = parse_strategy(PUBLISHED_STRATEGY)[int(torch.randint(6, (), generator=generator.manual_seed(seed)))]
        assert torch.equal(
            siamese_augment(images, seed=seed), expected(images, SiameseStrength(), generator)
        )  # fmt: skip
    assert chosen == set(range(6))


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_reach_the_images(images, name):
    part = images[:1, :, :4, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: siamese_augment(x, name, seed=3), (part,))


def test_the_global_stream_is_left_alone(images):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    siamese_augment(images, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_strength_zero_is_the_identity(images):
    none = SiameseStrength(
        brightness=0, saturation=1, contrast=0, crop=0, cutout=0, flip=0, scale=1, rotate=0
    )  # fmt: skip
    for name in OPERATIONS:
        if name != "color":  # its saturation factor is drawn from 0 up, so that no strength switches it off
            assert torch.allclose(siamese_augment(images, name, seed=2, strength=none), images, atol=1e-12)


@pytest.mark.parametrize("strategy", ["", "color_blur", "color__flip"])
def test_unknown_operations(images, strategy):
    with pytest.raises(ConfigError, match=r"(?s)no Siamese augmentation called.*color, crop, cutout, flip, scale"):
        siamese_augment(images, strategy, seed=0)
