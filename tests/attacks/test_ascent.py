"""Gradients are taken on batches of few sizes, and are those of every image alone."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from guard_plugins.attacks.ascent import few_sizes, input_gradient
from guard_plugins.attacks.losses import LOSSES


@given(st.integers(1, 100_000))
def test_a_batch_grows_by_an_eighth_at_most(count: int) -> None:
    assert count <= few_sizes(count) <= count * 9 / 8
    assert few_sizes(few_sizes(count)) == few_sizes(count)


def test_there_are_few_sizes() -> None:
    assert len({few_sizes(count) for count in range(1, 501)}) == 56
    assert [few_sizes(count) for count in (1, 2, 15, 16, 17, 100, 129, 500)] == [1, 2, 15, 16, 18, 104, 144, 512]


@pytest.mark.parametrize("count", [1, 3, 15, 17, 33, 100])
def test_the_gradient_is_that_of_every_image_alone(
    count: int, digits_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    net = copy.deepcopy(digits_net).double()
    images, labels = digits[0][:count].double(), digits[1][:count]
    logits, grad = input_gradient(net, LOSSES["ce"])(images, labels)
    assert logits.shape == (count, 10)
    assert grad.shape == images.shape
    for number in range(count):
        leaf = images[number : number + 1].clone().requires_grad_()
        out = net(leaf)
        torch.nn.functional.cross_entropy(out, labels[number : number + 1]).backward()
        assert leaf.grad is not None
        torch.testing.assert_close(grad[number], leaf.grad[0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(logits[number], out[0].detach(), rtol=1e-9, atol=1e-12)
