from __future__ import annotations

import logging

import pytest
import torch
from pyautoattack import AutoAttack as Reference
from torch import Tensor, nn

from guard_plugins.attacks.apgd import APGDCE, APGDT
from guard_plugins.attacks.autoattack import AutoAttack
from guard_plugins.attacks.base import Attack
from guard_plugins.attacks.fab import FABT
from guard_plugins.attacks.official import Predict
from guard_plugins.attacks.square import Square
from guard_plugins.evaluation.accuracy import attack_accuracy
from guard_plugins.runtime.seeds import Seeds
from tests.attacks.oracle import Linear, inner_images

PARTS = (APGDCE(steps=40), APGDT(steps=40), FABT(steps=40), Square(queries=400))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("attack", PARTS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("classes", [2, 3, 4, 10, 200])
def test_every_part_takes_any_number_of_classes(
    attack: Attack, classes: int, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    model, images = Linear(classes=classes, shape=(3, 6, 6), seed=2), inner_images(24, (3, 6, 6), seed=3)
    labels = model(images).argmax(1)
    distance = model.distances(images, labels, norm="Linf")
    eps = float(distance.median())
    before = torch.get_rng_state()
    adversarial = attack.perturb(model, images, labels, eps=eps, generator=generator())
    assert torch.equal(torch.get_rng_state(), before)
    assert float((adversarial - images).abs().max()) <= eps + 1e-6
    broken = model(adversarial).argmax(1) != labels
    assert not broken[distance > eps + 1e-6].any()
    if attack.name != "square":
        assert int(broken.sum()) >= 0.6 * int((distance < 0.97 * eps).sum())
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3, 4, 10, 200])
def test_robust_accuracy_of_a_linear_model_is_exact(classes: int) -> None:
    model, images = Linear(classes=classes, shape=(1, 6, 6), seed=4), inner_images(100, (1, 6, 6), seed=5)
    labels = model(images).argmax(1)
    labels[:10] = (labels[:10] + 1) % classes
    distance = model.distances(images, model(images).argmax(1), norm="Linf")
    eps = float(distance.median())
    assert eps < 0.35  # the box never binds
    result = attack_accuracy(model, AutoAttack(), images, labels, eps=eps, batch_size=64, seeds=Seeds(0))
    assert result.attacked == 90
    truly = (distance > eps)[10:]
    assert abs(int(result.robust.sum()) - int(truly.sum())) <= 1
    assert not result.robust[:10].any()


@pytest.mark.slow
def test_equals_the_official_standard_evaluation(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][1300:1380], digits[1][1300:1380]
    eps = 40 / 255
    ours = attack_accuracy(digits_net, AutoAttack(), images, labels, eps=eps, batch_size=80, seeds=Seeds(0))
    logging.getLogger("auto-attack").addHandler(logging.NullHandler())
    reference = Reference(digits_net, eps=eps, seed=0, device="cpu")
    adversarial, _ = reference.run_standard_evaluation(images, labels, batch_size=80)
    theirs = digits_net(adversarial).argmax(1) == labels
    assert 0 < ours.accuracy < float((digits_net(images).argmax(1) == labels).float().mean())
    assert int((ours.robust != theirs).sum()) <= 1  # another random start


def test_square_cannot_write_into_the_images(linear_data: tuple[Tensor, Tensor]) -> None:
    class Pixels(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)  # a view of its input

    images = inner_images(8, (1, 2, 2), seed=0)
    labels = images.flatten(1).argmax(1)
    adversarial = Square(queries=20).perturb(Pixels(), images.clone(), labels, eps=0.01, generator=generator())
    assert torch.isfinite(adversarial).all()
    assert float((adversarial - images).abs().max()) <= 0.01 + 1e-6


def test_double_precision_models_are_asked_in_double(linear: Linear) -> None:
    logits = Predict(linear.double(), torch.float64)(inner_images(3, (1, 4, 4), seed=0))
    assert logits.dtype == torch.float32


def test_another_seed_gives_another_random_start(linear: Linear, linear_data: tuple[Tensor, Tensor]) -> None:
    first, again, other = (
        APGDCE(steps=2).perturb(linear, *linear_data, eps=0.3, generator=generator(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_autoattack_is_the_standard_and_leaves_nothing_out() -> None:
    assert [repr(part) for part in AutoAttack().parts()] == [
        "APGDCE(steps=100)",
        "APGDT(steps=100)",
        "FABT(steps=100)",
        "Square(queries=5000)",
    ]


def test_autoattack_called_directly_breaks_what_the_harness_counts(linear: Linear, linear_data: tuple) -> None:
    images, labels = linear_data
    distance = linear.distances(images, labels, norm="Linf")
    eps = float(distance.quantile(0.8))
    left = distance < 0.95 * eps
    adversarial = AutoAttack().perturb(linear, images[left], labels[left], eps=eps, generator=generator())
    assert (linear(adversarial).argmax(1) != labels[left]).all()
