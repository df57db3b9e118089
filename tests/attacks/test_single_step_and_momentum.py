from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.attacks.fgsm import FGSM
from guard_plugins.attacks.mim import MIM
from guard_plugins.attacks.noise import RandomNoise
from guard_plugins.errors import ConfigError
from tests.attacks.oracle import Linear


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def sample(digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return digits[0][1300:1330], digits[1][1300:1330]


def grad_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(model(leaf), y), leaf)[0]


def test_fgsm_is_one_signed_step(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = sample(digits)
    correct = digits_net(images).argmax(1) == labels
    images, labels = images[correct], labels[correct]
    ours = FGSM().perturb(digits_net, images, labels, eps=0.1, generator=generator())
    for i in range(len(images)):
        x, y = images[i : i + 1], labels[i : i + 1]
        twin = (x + 0.1 * grad_of(digits_net, x, y).sign()).clamp(0, 1)
        torch.testing.assert_close(ours[i : i + 1], twin, atol=1e-6, rtol=0)


def test_mim_is_the_published_update_sample_by_sample(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = sample(digits)
    eps, steps, size = 32 / 255, 8, 6 / 255
    ours = MIM(steps=steps, decay=0.7, step_size=size).perturb(
        digits_net, images, labels, eps=eps, generator=generator()
    )
    survived = 0
    for i in range(len(images)):
        x, y = images[i : i + 1], labels[i : i + 1]
        iterate, momentum = x, torch.zeros_like(x)
        for _ in range(steps):
            if digits_net(iterate).argmax(1) != y:
                break
            grad = grad_of(digits_net, iterate, y)
            momentum = 0.7 * momentum + grad / grad.abs().sum()
            iterate = (iterate + size * momentum.sign()).clamp(x - eps, x + eps).clamp(0, 1)
        survived += bool(digits_net(iterate).argmax(1) == y)
        torch.testing.assert_close(ours[i : i + 1], iterate, atol=1e-6, rtol=0)
    assert 0 < survived < len(images)


def test_mim_does_not_depend_on_the_company_a_sample_keeps(
    digits_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = sample(digits)
    attack = MIM(steps=5)
    together = attack.perturb(digits_net, images, labels, eps=0.1, generator=generator())
    alone = attack.perturb(digits_net, images[:1], labels[:1], eps=0.1, generator=generator())
    torch.testing.assert_close(together[:1], alone, atol=1e-6, rtol=0)


def test_mim_survives_a_zero_gradient() -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :2] * 0 + torch.tensor([1.0, 0.0])

    images = torch.rand(3, 1, 2, 2)
    adversarial = MIM().perturb(Constant(), images, torch.zeros(3).long(), eps=0.1, generator=generator())
    assert torch.equal(adversarial, images)


def test_noise_goes_to_corners_and_is_weaker_than_a_gradient(
    linear: Linear, linear_data: tuple[Tensor, Tensor]
) -> None:
    images, labels = linear_data
    eps = float(linear.distances(images, labels, norm="Linf").quantile(0.7))
    noisy = RandomNoise(draws=20).perturb(linear, images, labels, eps=eps, generator=generator())
    torch.testing.assert_close((noisy - images).abs(), torch.full_like(images, eps), atol=1e-6, rtol=0)
    by_noise = linear(noisy).argmax(1) != labels
    by_gradient = linear(FGSM().perturb(linear, images, labels, eps=eps, generator=generator())).argmax(1) != labels
    assert 0 < int(by_noise.sum()) < int(by_gradient.sum())


def test_noise_keeps_the_first_draw_that_works(linear: Linear, linear_data: tuple[Tensor, Tensor]) -> None:
    broken = [
        linear(RandomNoise(draws=draws).perturb(linear, *linear_data, eps=0.2, generator=generator())).argmax(1)
        != linear_data[1]
        for draws in (1, 30)
    ]
    assert (broken[0] <= broken[1]).all()
    assert int(broken[1].sum()) > int(broken[0].sum())


def test_labels_and_settings() -> None:
    assert (FGSM().label, MIM(steps=7).label, RandomNoise(draws=5).label) == ("fgsm", "mim-7", "noise-5")
    with pytest.raises(ConfigError, match="at least one step"):
        MIM(steps=0)
