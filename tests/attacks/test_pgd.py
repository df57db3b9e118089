from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.attacks.ascent import few_sizes
from guard_plugins.attacks.pgd import PGD
from guard_plugins.errors import ConfigError
from tests.attacks.oracle import Linear, inner_images


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def naive_pgd(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, steps: int, start: Tensor) -> list[Tensor]:
    """Every iterate of plain PGD, one sample at a time, to the end."""
    iterate, iterates = start, [start]
    for k in range(steps):
        size = eps * (1 + math.cos(math.pi * k / steps))
        leaf = iterate.clone().requires_grad_()
        F.cross_entropy(model(leaf), y).backward(inputs=[leaf])
        assert leaf.grad is not None
        iterate = (iterate + size * leaf.grad.sign()).clamp(x - eps, x + eps).clamp(0, 1)
        iterates.append(iterate)
    return iterates


def test_finds_exactly_the_samples_within_reach() -> None:
    # Two classes: with more, the cross-entropy may point at another class than the nearest.
    linear, images = Linear(classes=2, shape=(1, 4, 4), seed=0), inner_images(60, (1, 4, 4), seed=1)
    labels = linear(images).argmax(1)
    distance = linear.distances(images, labels, norm="Linf")
    for eps in distance.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist():
        adversarial = PGD(steps=40).perturb(linear, images, labels, eps=eps, generator=generator())
        broken = linear(adversarial).argmax(1) != labels
        assert 0 < int(broken.sum()) < len(images)
        assert not broken[distance > eps].any()
        assert broken[distance < 0.98 * eps].all()


def test_walks_the_path_of_the_naive_twin(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][1300:1330], digits[1][1300:1330]
    eps, steps = 24 / 255, 15
    adversarial = PGD(steps=steps).perturb(digits_net, images, labels, eps=eps, generator=generator(3))
    noise = torch.rand(images.shape, generator=generator(3))
    starts = (images + eps * (2 * noise - 1)).clamp(0, 1)
    survived = 0
    for i in range(len(images)):
        x, y = images[i : i + 1], labels[i : i + 1]
        iterates = naive_pgd(digits_net, x, y, eps=eps, steps=steps, start=starts[i : i + 1])
        first = next((k for k, it in enumerate(iterates) if digits_net(it).argmax(1) != y), steps)
        survived += bool(digits_net(iterates[first]).argmax(1) == y)
        torch.testing.assert_close(adversarial[i : i + 1], iterates[first], atol=1e-6, rtol=0)
    assert 0 < survived < len(images)


def test_samples_leave_the_batch_once_broken(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    sizes: list[int] = []
    handle = digits_net.register_forward_hook(lambda module, args, out: sizes.append(len(args[0])))
    PGD(steps=20).perturb(digits_net, digits[0][1300:1400], digits[1][1300:1400], eps=64 / 255, generator=generator())
    handle.remove()
    assert sizes[0] == few_sizes(100) == 104
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 60
    assert sum(sizes) < 0.5 * 100 * 20


def test_more_restarts_never_break_fewer(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][1300:1500], digits[1][1300:1500]
    broken = [
        digits_net(
            PGD(steps=2, restarts=r, step_size=2 / 255).perturb(
                digits_net, images, labels, eps=16 / 255, generator=generator()
            )
        ).argmax(1)
        != labels
        for r in (1, 4)
    ]
    assert (broken[0] <= broken[1]).all()
    assert broken[1].sum() > broken[0].sum()


def test_only_images_that_came_near_are_started_on_again(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    """The twin: a first start, then those whose margin it left less than a quarter of; the others keep its iterate.

    In float64: images attacked in batches of other sizes differ by rounding, which must not turn a sign.
    """
    images, labels, net = digits[0][1300:1500].double(), digits[1][1300:1500], copy.deepcopy(digits_net).double()

    def attacked(**settings: float) -> Tensor:
        attack = PGD(steps=5, **settings)  # type: ignore[arg-type]
        return attack.perturb(net, images, labels, eps=32 / 255, generator=generator())

    def lead(x: Tensor) -> Tensor:
        logits = net(x)
        others = logits.scatter(1, labels[:, None], -torch.inf)
        return logits.gather(1, labels[:, None]).squeeze(1) - others.amax(1)

    with torch.no_grad():
        once, often, near = attacked(), attacked(restarts=4), attacked(restarts=4, near=0.25)
        left = lead(once) / lead(images)
        again = (left > 0) & (left < 0.25)
        broken = [int((lead(x) <= 0).sum()) for x in (once, near, often)]
    assert torch.equal(near[~again], once[~again])
    torch.testing.assert_close(near[again], often[again], atol=1e-9, rtol=0)
    assert 0 < int(again.sum()) < int((left > 0).sum())
    assert broken[0] < broken[1] <= broken[2]


def test_without_random_start_and_with_its_own_step(linear: Linear, linear_data: tuple[Tensor, Tensor]) -> None:
    images, labels = linear_data
    attack = PGD(steps=1, random_start=False, step_size=0.01)
    delta = attack.perturb(linear, images, labels, eps=0.05, generator=generator()) - images
    torch.testing.assert_close(delta.abs(), torch.full_like(delta, 0.01), atol=1e-6, rtol=0)


def test_20_falling_steps_break_more_than_100_constant_ones(
    robust_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels, eps = digits[0][1300:1500], digits[1][1300:1500], 48 / 255
    falling, constant = (
        robust_net(attack.perturb(robust_net, images, labels, eps=eps, generator=generator())).argmax(1) != labels
        for attack in (PGD(steps=20), PGD(steps=100, step_size=2.5 / 100 * eps))
    )
    assert int(falling.sum()) > int(constant.sum()) + 2


def test_leaves_gradients_alone_and_works_under_no_grad(linear: Linear, linear_data: tuple[Tensor, Tensor]) -> None:
    linear.layer.weight.grad = torch.ones_like(linear.layer.weight)
    with torch.no_grad():
        PGD(steps=2).perturb(linear, *linear_data, eps=0.05, generator=generator())
    assert torch.equal(linear.layer.weight.grad, torch.ones_like(linear.layer.weight))
    assert linear.layer.bias.grad is None


def test_label_and_repr_show_the_settings() -> None:
    assert PGD().label == "pgd-20"
    assert PGD(steps=100, restarts=5).label == "pgd-100x5"
    assert repr(PGD()) == "PGD(steps=20, restarts=1, random_start=True, step_size=None, near=1.0)"


def test_refuses_no_steps() -> None:
    with pytest.raises(ConfigError, match="at least one step and one restart"):
        PGD(steps=0)
