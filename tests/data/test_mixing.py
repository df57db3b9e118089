from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch.nn import functional as F

from guard_plugins.data.mixing import draw_cutmix, draw_mixup, mix


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(8, 3, 6, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Mixed(NamedTuple):
    images: torch.Tensor
    permutation: torch.Tensor
    share: float
    targets: Callable[[torch.Tensor], torch.Tensor]


def mixup(images, *, alpha):
    how = draw_mixup(len(images), alpha=alpha)
    return Mixed(how.of(images), how.partner, float(how.share), how.targets)


def cutmix(images, *, alpha):
    how = draw_cutmix(len(images), images.shape[-2:], alpha=alpha)
    return Mixed(how.of(images), how.partner, float(how.share), how.targets)


def test_mixup_is_the_convex_combination(images):
    mixed = mixup(images, alpha=0.8)
    assert sorted(mixed.permutation.tolist()) == list(range(8))
    assert 0 <= mixed.share <= 1
    for i, partner in enumerate(mixed.permutation.tolist()):
        expected = mixed.share * images[i] + (1 - mixed.share) * images[partner]
        assert torch.allclose(mixed.images[i], expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_replaces_one_box_and_counts_its_pixels(images, seed):
    torch.manual_seed(seed)
    mixed = cutmix(images, alpha=1.0)
    own = (mixed.images == images).all(1)
    foreign = (mixed.images == images[mixed.permutation]).all(1)
    assert (own | foreign).all()
    moved = mixed.permutation != torch.arange(8)
    replaced = ~own[moved]
    assert (replaced == replaced[:1]).all()
    box = replaced[0]
    assert mixed.share == pytest.approx(1 - box.double().mean().item())
    rows, columns = box.any(1), box.any(0)
    assert torch.equal(box, rows[:, None] & columns[None])


def test_cutmix_box_has_the_drawn_area_where_the_border_does_not_cut_it():
    pixels = torch.rand(2, 1, 100, 100)
    shares, drawn = [], []
    for seed in range(200):
        torch.manual_seed(seed)
        drawn.append(float(torch.distributions.Beta(torch.tensor(1.0, dtype=torch.float64), 1.0).sample()))
        torch.manual_seed(seed)
        shares.append(cutmix(pixels, alpha=1.0).share)
    # clipping only ever shrinks the box; half-widths are rounded down, which costs up to two pixels a side
    assert all(share >= lam - 1e-9 for share, lam in zip(shares, drawn, strict=True))
    small = [(share, lam) for share, lam in zip(shares, drawn, strict=True) if lam > 0.96]
    assert small
    assert all(share - lam < 0.041 for share, lam in small)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
def test_share_follows_the_beta_distribution(images, alpha):
    shares = torch.tensor([mixup(images[:1], alpha=alpha).share for _ in range(3000)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(shares.mean() - 0.5) < 5 * math.sqrt(variance / 3000)
    assert shares.var().item() == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("mixing", [mixup, cutmix])
def test_alpha_zero_mixes_nothing(images, mixing):
    mixed = mixing(images, alpha=0)
    assert torch.equal(mixed.images, images)
    assert mixed.share == 1


@pytest.mark.parametrize("mixing", [mixup, cutmix])
def test_targets_are_mixed_like_the_images(images, mixing):
    mixed = mixing(images, alpha=1.0)
    labels = torch.arange(8) % 4
    targets = mixed.targets(F.one_hot(labels, 4).float())
    for i, partner in enumerate(mixed.permutation.tolist()):
        expected = torch.zeros(4)
        expected[labels[i]] += mixed.share
        expected[labels[partner]] += 1 - mixed.share
        assert torch.allclose(targets[i], expected, atol=1e-6)


@pytest.mark.parametrize("mixing", [mixup, cutmix])
def test_the_images_given_are_left_alone_and_the_seed_decides(images, mixing):
    before = images.clone()
    torch.manual_seed(4)
    first = mixing(images, alpha=1.0)
    torch.manual_seed(4)
    assert torch.equal(mixing(images, alpha=1.0).images, first.images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("draw", [draw_mixup, lambda n, alpha: draw_cutmix(n, (6, 10), alpha=alpha)])
def test_images_mixed_with_numbers_of_their_own_equal_a_batch_that_shares_them(images, draw):
    for seed in range(20):
        torch.manual_seed(seed)
        how = draw(8, alpha=1.0)
        box = None if how.box is None else how.box.expand(8, 4)
        own = how._replace(share=how.share.expand(8), box=box)
        partners = images[how.partner]
        single = torch.cat([mix(images[i : i + 1], partners[i : i + 1], how) for i in range(8)])
        assert torch.allclose(mix(images, partners, own), how.of(images), rtol=0, atol=1e-6)
        assert torch.allclose(single, how.of(images), rtol=0, atol=1e-6)
