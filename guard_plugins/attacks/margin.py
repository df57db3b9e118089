"""PGD on margin losses, whose gradients do not vanish on confident logits."""

from __future__ import annotations

from typing import ClassVar

from guard_plugins.attacks.losses import LossName
from guard_plugins.attacks.pgd import PGD


class MarginPGD(PGD):
    """PGD on the largest wrong logit minus the true one: Carlini & Wagner's loss under an L-infinity bound."""

    name: ClassVar[str] = "cw-linf"
    summary: ClassVar[str] = "PGD on the Carlini & Wagner margin loss"
    display: ClassVar[str] = "CW-L∞"
    loss: ClassVar[LossName] = "margin"


class DLRPGD(PGD):
    """PGD on the difference of logits ratio, which neither shifting nor scaling the logits changes."""

    name: ClassVar[str] = "dlr-linf"
    summary: ClassVar[str] = "PGD on the difference of logits ratio (Croce & Hein 2020)"
    display: ClassVar[str] = "DLR-L∞"
    loss: ClassVar[LossName] = "dlr"
