from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.attacks.adaptive import Adaptive, SmoothReLU
from guard_plugins.attacks.margin import MarginPGD
from guard_plugins.errors import ConfigError
from guard_plugins.evaluation.gate.transfer import Transfer
from tests.attacks.oracle import Linear, train_digits


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


X = torch.linspace(-2, 2, 9)


@pytest.mark.parametrize(
    "relu",
    [
        torch.relu,
        F.relu,
        Tensor.relu,
        nn.ReLU(),
        lambda x: F.relu(x, inplace=True),
        lambda x: F.relu(x, True),
        nn.ReLU(inplace=True),
        torch.relu_,
        Tensor.relu_,
    ],
)
def test_relu_stays_exact_forwards_and_is_softplus_backwards(relu) -> None:
    leaf = X.clone().requires_grad_()
    with SmoothReLU(beta=5.0):
        out = relu(leaf * 1)
    torch.testing.assert_close(out, X.clamp_min(0), atol=1e-6, rtol=0)
    (grad,) = torch.autograd.grad(out.sum(), leaf)
    torch.testing.assert_close(grad, torch.sigmoid(5 * X), atol=1e-6, rtol=0)


def test_in_place_calls_still_write_in_place() -> None:
    leaf = X.clone().requires_grad_()
    with SmoothReLU(beta=5.0):
        x = leaf * 1
        F.relu(x, inplace=True)
    torch.testing.assert_close(x, X.clamp_min(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(x.sum(), leaf)[0], torch.sigmoid(5 * X), atol=1e-6, rtol=0)


def test_nothing_is_changed_outside_the_block() -> None:
    leaf = X.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(F.relu(leaf).sum(), leaf)[0], (X > 0).float())


def test_the_surrogate_finds_a_way_past_dead_units() -> None:
    class Dead(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            x = images.flatten(1).mean(1)
            return torch.stack([torch.full_like(x, 0.1), F.relu(x - 0.6)], dim=1)  # flat below 0.6

    images, labels = torch.full((4, 1, 3, 3), 0.5), torch.zeros(4, dtype=torch.long)
    for attack, breaks in ((MarginPGD(random_start=False), False), (Adaptive(random_start=False), True)):
        adversarial = attack.perturb(Dead(), images, labels, eps=0.25, generator=generator())
        assert bool((Dead()(adversarial).argmax(1) != labels).all()) is breaks


def test_follows_the_sum_of_both_normalised_gradients(linear: Linear, linear_data: tuple[Tensor, Tensor]) -> None:
    images, labels = linear_data
    teacher = Linear(classes=4, shape=(1, 4, 4), seed=9).train()
    step = Adaptive(teacher=teacher, steps=1, random_start=False, step_size=0.001)
    moved = step.perturb(linear, images, labels, eps=0.1, generator=generator()) - images

    def direction(model: Linear) -> Tensor:
        logits = model(images).detach().scatter(1, labels[:, None], -torch.inf)
        weight = (model.layer.weight[logits.argmax(1)] - model.layer.weight[labels]).detach()
        return weight / weight.abs().amax(1, keepdim=True)

    total = (direction(linear) + direction(teacher)).view_as(images)
    torch.testing.assert_close(moved, 0.001 * total.sign(), atol=1e-6, rtol=0)
    assert teacher.training
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())


def test_without_a_teacher_or_surrogate_it_is_margin_pgd(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    args = (digits_net, digits[0][1300:1340], digits[1][1300:1340])
    plain = Adaptive(beta=0.0).perturb(*args, eps=0.1, generator=generator())
    torch.testing.assert_close(plain, MarginPGD().perturb(*args, eps=0.1, generator=generator()), atol=1e-6, rtol=0)


def test_transfer_is_weaker_than_white_box_but_not_nothing(
    digits_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = digits[0][1300:1500], digits[1][1300:1500]
    source = train_digits(*digits, seed=1).train()

    def broken(attack: MarginPGD | Transfer) -> int:
        adversarial = attack.perturb(digits_net, images, labels, eps=48 / 255, generator=generator())
        return int((digits_net(adversarial).argmax(1) != labels).sum())

    clean = int((digits_net(images).argmax(1) != labels).sum())
    assert clean + 5 < broken(Transfer(source=source)) < broken(MarginPGD())
    assert source.training


def test_transfer_needs_a_source(linear: Linear, linear_data: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ConfigError, match="needs a network"):
        Transfer().perturb(linear, *linear_data, eps=0.1, generator=generator())


def test_labels_tell_whether_the_teacher_is_known(linear: Linear) -> None:
    assert Adaptive().label == "adaptive-20"
    assert Adaptive(teacher=linear, steps=50).label == "adaptive-50+teacher"
    assert repr(Adaptive()) == "Adaptive(steps=20, restarts=1, random_start=True, step_size=None, near=1.0, beta=10.0)"
