from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from guard_plugins.attacks.base import Attack, Norm
from guard_plugins.attacks.pgd import PGD
from guard_plugins.errors import DataError, PluginError, TrainingError
from guard_plugins.evaluation.accuracy import AttackResult, Underway, attack_accuracy, clean_accuracy
from guard_plugins.runtime.seeds import Seeds
from tests.attacks.oracle import Linear, inner_images

SHAPE = (1, 4, 4)


@pytest.fixture
def linear() -> Linear:
    return Linear(classes=2, shape=SHAPE, seed=0)


@pytest.fixture
def data(linear: Linear) -> tuple[Tensor, Tensor]:
    images = inner_images(50, SHAPE, seed=1)
    labels = linear(images).argmax(1)
    labels[:10] = 1 - labels[:10]
    return images, labels


@dataclass(frozen=True, kw_only=True)
class Recorder(Attack):
    """Moves every pixel by ``shift`` in units of eps and draws from every random stream there is."""

    name: ClassVar[str] = "recorder"
    norm: ClassVar[Norm] = "Linf"
    summary: ClassVar[str] = "a test double"
    shift: float = 0.0

    def perturb(
        self, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, generator: torch.Generator
    ) -> Tensor:
        assert not any(module.training for module in model.modules())
        assert (model(images).argmax(1) == labels).all()
        torch.rand(3), np.random.rand(), random.random()
        model(images.clone().requires_grad_()).sum().backward()
        return images + self.shift * eps


def run(
    model: nn.Module, data: tuple[Tensor, Tensor], attack: Attack, *, eps: float = 0.05, batch_size: int = 16
) -> AttackResult:
    return attack_accuracy(model, attack, *data, eps=eps, batch_size=batch_size, seeds=Seeds(0))


def test_clean_accuracy_is_the_share_of_correct_images(linear: Linear, data: tuple[Tensor, Tensor]) -> None:
    assert clean_accuracy(linear, *data, batch_size=7) == pytest.approx(0.8)


def test_counts_what_the_distances_say(linear: Linear, data: tuple[Tensor, Tensor]) -> None:
    images, labels = data
    correct = linear(images).argmax(1) == labels
    distance = linear.distances(images, labels, norm="Linf")
    eps = float(distance[correct].median()) * 1.01
    result = run(linear, data, PGD(steps=40), eps=eps)
    assert torch.equal(result.robust, correct & (distance > eps))
    assert (result.images, result.attacked) == (50, 40)
    assert 0 < result.accuracy < 0.8
    assert (result.attack, result.norm, result.eps) == ("pgd-40", "Linf", eps)


def test_radius_zero_is_the_clean_accuracy(linear: Linear, data: tuple[Tensor, Tensor]) -> None:
    assert run(linear, data, PGD(), eps=0.0).accuracy == clean_accuracy(linear, *data, batch_size=16)


def test_results_do_not_depend_on_what_ran_before(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    data = (digits[0][1300:1400], digits[1][1300:1400])
    attack = PGD(steps=1, step_size=1e-4)  # all random start
    alone = run(digits_net, data, attack, eps=64 / 255).robust
    run(digits_net, data, PGD(steps=2), eps=16 / 255)
    torch.rand(7)
    assert torch.equal(run(digits_net, data, attack, eps=64 / 255).robust, alone)
    other = attack_accuracy(digits_net, attack, *data, eps=64 / 255, batch_size=16, seeds=Seeds(1)).robust
    assert not torch.equal(other, alone)


def test_leaves_the_model_and_the_random_streams_as_found(data: tuple[Tensor, Tensor]) -> None:
    model = nn.Sequential(Linear(classes=2, shape=SHAPE, seed=0), nn.BatchNorm1d(2), nn.Identity())
    model[1].eval()
    model[1].weight.requires_grad_(False)
    model[0].layer.weight.grad = torch.ones(2, 16)
    flags = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    run(model, data, Recorder())
    drawn = (torch.rand(2), np.random.rand(), random.random())
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    assert torch.equal(drawn[0], torch.rand(2))
    assert drawn[1:] == (np.random.rand(), random.random())
    assert [module.training for module in model.modules()] == flags
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, True]
    assert torch.equal(model[0].layer.weight.grad, torch.ones(2, 16))
    assert model[0].layer.bias.grad is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_works_inside_no_grad_and_inference_mode(linear: Linear, data: tuple[Tensor, Tensor]) -> None:
    expected = run(linear, data, PGD()).robust
    with torch.no_grad():
        assert torch.equal(run(linear, data, PGD()).robust, expected)
    with torch.inference_mode():
        assert torch.equal(run(linear, data, PGD()).robust, expected)


def test_progress_counts_images_up_to_all_of_them(linear: Linear, data: tuple[Tensor, Tensor]) -> None:
    seen: list[tuple[int, int]] = []
    attack_accuracy(linear, PGD(), *data, eps=0.01, batch_size=20, seeds=Seeds(0), progress=lambda *at: seen.append(at))
    assert seen == [(10, 50), (30, 50), (50, 50), (50, 50)]  # 10 are misclassified and need no attack


def test_parts_attack_only_what_is_left_and_share_the_progress(linear: Linear, data: tuple[Tensor, Tensor]) -> None:
    asked: list[int] = []

    @dataclass(frozen=True, kw_only=True)
    class Counted(PGD):
        def perturb(self, model: nn.Module, images: Tensor, labels: Tensor, **options: Any) -> Tensor:
            asked.append(len(images))
            return super().perturb(model, images, labels, **options)

    class Both(Recorder):
        def parts(self) -> tuple[Attack, ...]:
            return (Counted(steps=1), Counted(steps=40))

    seen: list[tuple[int, int]] = []
    images, labels = data
    eps = float(linear.distances(images, labels, norm="Linf")[10:].median())
    result = attack_accuracy(
        linear, Both(), *data, eps=eps, batch_size=50, seeds=Seeds(0), progress=lambda *at: seen.append(at)
    )
    assert asked == [40, round(result.parts[0][1] * 50)]
    assert 0 < asked[1] < 40
    assert [label for label, _ in result.parts] == ["pgd-1", "pgd-40"]
    assert result.accuracy == result.parts[1][1] <= result.parts[0][1]
    assert seen[0] == (5, 50)
    assert seen[-1] == (50, 50)
    assert seen == sorted(seen)


@pytest.mark.parametrize(("shift", "eps"), [(1.5, 0.05), (1.0, 0.9), (float("nan"), 0.05)])
def test_refuses_an_attack_that_leaves_its_threat_model(
    linear: Linear, data: tuple[Tensor, Tensor], shift: float, eps: float
) -> None:
    with pytest.raises(PluginError, match="recorder returned images that break") as caught:
        run(linear, data, Recorder(shift=shift), eps=eps)
    assert "Recorder(shift=" in caught.value.seen


def test_refuses_logits_that_are_not_finite(linear: Linear, data: tuple[Tensor, Tensor]) -> None:
    with torch.no_grad():
        linear.layer.weight[0, 0] = torch.nan
    with pytest.raises(TrainingError, match="logits are not finite"):
        clean_accuracy(linear, *data, batch_size=16)
    with pytest.raises(TrainingError, match="logits are not finite"):
        run(linear, data, PGD())


def test_refuses_an_empty_or_unequal_selection(linear: Linear, data: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(DataError, match="at least one image"):
        clean_accuracy(linear, data[0][:0], data[1][:0], batch_size=16)
    with pytest.raises(DataError, match="one label for every image"):
        run(linear, (data[0], data[1][:-1]), PGD())


def test_goes_on_after_any_batch_and_finds_the_same(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][1300:1360], digits[1][1300:1360]
    perturbed: list[int] = []

    @dataclass(frozen=True, kw_only=True)
    class Counted(PGD):
        def perturb(self, model: nn.Module, images: Tensor, labels: Tensor, **options: Any) -> Tensor:
            perturbed.append(len(images))
            return super().perturb(model, images, labels, **options)

    class Both(Recorder):
        def parts(self) -> tuple[Attack, ...]:
            return (Counted(steps=1, step_size=1e-4), Counted(steps=2))  # the first is its random start alone

    def attack(**options: Any) -> AttackResult:
        return attack_accuracy(
            digits_net, Both(), images, labels, eps=48 / 255, batch_size=16, seeds=Seeds(0), **options
        )

    states: list[Underway] = []
    whole = attack(save=lambda state: states.append(copy.deepcopy(state)))
    batches = list(perturbed)
    assert whole.parts[0][1] > whole.parts[1][1] > 0
    assert len(states) == len(batches) + 3  # before the first batch of each part and at the end too
    for state in states:
        first = len(batches) - -(-int(state.standing.sum()) // 16)
        done = state.batches + (0, first, len(batches))[len(state.parts)]
        perturbed.clear()
        result = attack(begun=state)
        assert perturbed == batches[done:]
        assert torch.equal(result.robust, whole.robust)
        assert (result.parts, result.attacked) == (whole.parts, whole.attacked)
