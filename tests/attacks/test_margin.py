from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from guard_plugins.attacks.losses import LOSSES, cross_entropy, dlr, margin
from guard_plugins.attacks.margin import DLRPGD, MarginPGD
from guard_plugins.attacks.pgd import PGD


def test_margin_and_dlr_by_hand() -> None:
    logits = torch.tensor([[5.0, 3.0, 1.0, 0.0], [5.0, 3.0, 1.0, 0.0], [-7.0, -9.0, -8.0, -20.0]])
    labels = torch.tensor([0, 2, 1])
    torch.testing.assert_close(margin(logits, labels), torch.tensor([-2.0, 4.0, 2.0]))
    torch.testing.assert_close(dlr(logits, labels), torch.tensor([-2 / 4, 4 / 4, 2 / 2]))
    assert torch.equal(margin(logits, labels) > 0, logits.argmax(1) != labels)


def test_dlr_of_two_classes_is_the_margin() -> None:
    logits, labels = torch.tensor([[2.0, -1.0], [2.0, -1.0]]), torch.tensor([0, 1])
    torch.testing.assert_close(dlr(logits, labels), torch.tensor([-3.0, 3.0]))


def test_dlr_does_not_see_the_scale_of_the_logits() -> None:
    logits, labels = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 5
    torch.testing.assert_close(dlr(100 * logits + 7, labels), dlr(logits, labels), rtol=1e-3, atol=1e-4)
    assert set(LOSSES) == {"ce", "margin", "dlr"}
    assert cross_entropy(logits, labels).shape == (6,)


@pytest.mark.parametrize(("attack", "label"), [(MarginPGD(), "cw-linf-20"), (DLRPGD(steps=5), "dlr-linf-5")])
def test_labels(attack: PGD, label: str) -> None:
    assert attack.label == label
    assert repr(attack).startswith(type(attack).__name__ + "(steps=")


def test_margin_losses_see_through_confident_logits(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][1300:1400], digits[1][1300:1400]

    class Confident(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = 1000 * digits_net(images)
            return logits

    def robust(model: nn.Module, attack: PGD) -> float:
        generator = torch.Generator().manual_seed(0)
        adversarial = attack.perturb(model, images, labels, eps=40 / 255, generator=generator)
        return float((model(adversarial).argmax(1) == labels).float().mean())

    assert robust(Confident(), PGD()) > robust(digits_net, PGD()) + 0.2
    for attack in (MarginPGD(), DLRPGD()):
        assert abs(robust(Confident(), attack) - robust(digits_net, attack)) <= 0.02
