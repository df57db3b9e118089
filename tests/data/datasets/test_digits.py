from __future__ import annotations

import hashlib

import pytest
import torch

from guard_plugins.data.base import Data, DataRequest
from guard_plugins.data.datasets.digits import MEAN, STD, Digits, held_out

FIRST_FIVE = [6, 14, 15, 28, 33]
DIGEST = "df81431600085957fe6edc3970a12bbf5bb0d729a9e2a78a46f3b240735a6561"


@pytest.fixture(scope="module")
def digits() -> Data:
    return Digits().load(DataRequest())


def every(split) -> torch.Tensor:
    return split.images(torch.arange(len(split)))


def test_sizes_range_and_shape(digits):
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    images = every(digits.train)
    assert images.shape[1:] == digits.image_shape == (1, 8, 8)
    assert (images.min(), images.max()) == (0, 1)
    assert torch.equal((images * 16).round(), images * 16)
    assert digits.classes == tuple("0123456789")


def test_published_split_never_changes():
    from sklearn.datasets import load_digits

    labels = torch.from_numpy(load_digits().target).long()
    positions = torch.nonzero(held_out(labels)).flatten().tolist()
    digest = hashlib.sha256(",".join(map(str, positions)).encode()).hexdigest()
    assert positions[:5] == FIRST_FIVE
    assert digest == DIGEST


def test_a_fifth_of_every_class_is_held_out(digits):
    train, test = digits.train.labels.bincount(), digits.test.labels.bincount()
    assert ((test / (train + test) - 0.2).abs() < 0.003).all()


def test_splits_share_no_image(digits):
    from sklearn.datasets import load_digits

    together = torch.cat([every(digits.train), every(digits.test)]).flatten(1)
    original = torch.from_numpy(load_digits().images / 16).float().flatten(1)
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, original.tolist()))


def test_constants_are_those_of_the_training_pixels(digits):
    pixels = every(digits.train)
    assert pixels.mean().item() == pytest.approx(MEAN[0], abs=5e-5)
    assert pixels.std(unbiased=False).item() == pytest.approx(STD[0], abs=5e-5)


def test_limits_and_image_size(digits):
    small = Digits().load(DataRequest(train_per_class=3, test_per_class=2, image_size=16))
    assert small.train.labels.bincount().tolist() == [3] * 10
    assert small.test.labels.bincount().tolist() == [2] * 10
    assert small.image_shape == (1, 16, 16)
    first = torch.nonzero(digits.train.labels == 4).flatten()[:3]
    unresized = Digits().load(DataRequest(train_per_class=3))
    mine = torch.nonzero(unresized.train.labels == 4).flatten()
    assert torch.equal(unresized.train.images(mine), digits.train.images(first))


def test_a_linear_model_learns_it(digits):
    torch.manual_seed(0)
    images, labels = every(digits.train).flatten(1), digits.train.labels
    weights = torch.linalg.lstsq(images, torch.nn.functional.one_hot(labels).float() - 0.1, driver="gelsd").solution
    predicted = (every(digits.test).flatten(1) @ weights).argmax(1)
    assert (predicted == digits.test.labels).float().mean() > 0.9
