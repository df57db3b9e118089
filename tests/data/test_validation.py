"""Validation images: training images set aside, so that no choice looks at the test images."""

from __future__ import annotations

import pytest
import torch

from guard_plugins import configure
from guard_plugins.data.base import Data, DataRequest
from guard_plugins.data.datasets.digits import Digits
from guard_plugins.data.validation import with_validation
from guard_plugins.errors import DataError


def everything(data: Data, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    part = getattr(data, split)
    return part.images(torch.arange(len(part))), part.labels


def test_the_last_training_images_of_every_class_take_the_place_of_the_test_images() -> None:
    whole = Digits().load(DataRequest(train_per_class=9))
    held = with_validation(whole, 4)
    pixels, labels = everything(whole, "train")
    for label in range(10):
        own = pixels[labels == label]
        for split, expected in (("train", own[:5]), ("test", own[5:])):
            images, classes = everything(held, split)
            assert torch.equal(images[classes == label], expected)
    assert (held.mean, held.std, held.classes) == (whole.mean, whole.std, whole.classes)
    assert held.name == "digits, 4 held-out training images per class"


def test_without_the_option_the_data_are_as_they_were() -> None:
    whole = Digits().load(DataRequest(train_per_class=2))
    assert with_validation(whole, None) is whole


def test_a_class_may_not_lose_all_its_training_images() -> None:
    whole = Digits().load(DataRequest(train_per_class=3))
    with pytest.raises(DataError, match=r"(?s)Class .0. has too few .* 3 of them .*seen: 3 tr.*validation-per"):
        with_validation(whole, 3)


def test_the_limit_of_training_images_counts_what_is_trained_on() -> None:
    settings = {"train_per_class": 5, "validation_per_class": 4}
    assert configure("sre2l", data=settings).data_request().train_per_class == 9
    assert configure("sre2l", data={"validation_per_class": 4}).data_request().train_per_class is None
