"""Agreement with the Adversarial Robustness Toolbox, an independent library; skipped where it is not installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from guard_plugins.attacks.base import Attack
from guard_plugins.attacks.cw import CW
from guard_plugins.attacks.mim import MIM
from guard_plugins.attacks.pgd import PGD

pytest.importorskip("art", reason="the Adversarial Robustness Toolbox is not installed")

EPS, STEPS = 32 / 255, 12
STEP = EPS / 6


@pytest.fixture
def classifier(digits_net: nn.Module) -> Any:
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model=digits_net,
        loss=nn.CrossEntropyLoss(),
        input_shape=(1, 8, 8),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )


@pytest.fixture
def sample(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    images, labels = digits[0][1300:1400], digits[1][1300:1400]
    correct = digits_net(images).argmax(1) == labels
    return images[correct], labels[correct]


def one_hot(labels: Tensor) -> np.ndarray:
    return np.eye(10, dtype=np.float32)[labels.numpy()]


def compare(model: nn.Module, attack: Attack, theirs: Tensor, sample: tuple[Tensor, Tensor]) -> None:
    images, labels = sample
    ours = attack.perturb(model, images, labels, eps=EPS, generator=torch.Generator())
    robust = model(ours).argmax(1) == labels
    assert 0.1 < float(robust.float().mean()) < 0.9
    # We stop at the first misclassified iterate, they go on: a sample may come back, none may be robust here only.
    assert not (robust & (model(theirs).argmax(1) != labels)).any()
    assert int((robust != (model(theirs).argmax(1) == labels)).sum()) <= 1
    torch.testing.assert_close(ours[robust], theirs[robust], atol=1e-5, rtol=0)


def test_pgd(classifier: Any, digits_net: nn.Module, sample: tuple[Tensor, Tensor]) -> None:
    from art.attacks.evasion import ProjectedGradientDescent

    theirs = ProjectedGradientDescent(
        classifier, norm=np.inf, eps=EPS, eps_step=STEP, max_iter=STEPS, verbose=False
    ).generate(sample[0].numpy(), one_hot(sample[1]))
    attack = PGD(steps=STEPS, step_size=STEP, random_start=False)
    compare(digits_net, attack, torch.from_numpy(theirs), sample)


def test_mim(classifier: Any, digits_net: nn.Module, sample: tuple[Tensor, Tensor]) -> None:
    from art.attacks.evasion import MomentumIterativeMethod

    theirs = MomentumIterativeMethod(
        classifier, norm=np.inf, eps=EPS, eps_step=STEP, decay=1.0, max_iter=STEPS, verbose=False
    ).generate(sample[0].numpy(), one_hot(sample[1]))
    compare(digits_net, MIM(steps=STEPS, step_size=STEP), torch.from_numpy(theirs), sample)


@pytest.mark.slow
def test_cw_finds_images_at_least_as_near(
    classifier: Any, digits_net: nn.Module, sample: tuple[Tensor, Tensor]
) -> None:
    from art.attacks.evasion import CarliniL2Method

    images, labels = sample[0][:8], sample[1][:8]
    theirs = torch.from_numpy(
        CarliniL2Method(
            classifier, learning_rate=0.05, binary_search_steps=3, max_iter=30, initial_const=0.3, verbose=False
        ).generate(images.numpy(), one_hot(labels))
    )
    found = digits_net(theirs).argmax(1) != labels
    _, ours = CW().search(digits_net, images, labels, enough=0.0)
    lengths = (theirs - images).flatten(1).norm(dim=1)
    assert found.float().mean() > 0.9
    assert torch.isfinite(ours).all()
    # Nearer by a third in the median: most pixels of digits are exactly 0, where their change of variables is flat.
    assert (ours[found] <= 1.02 * lengths[found]).all()
