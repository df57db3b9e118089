"""Losses per sample that attacks maximise: cross-entropy, margin and DLR."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

LossName = Literal["ce", "margin", "dlr"]
AttackLoss = Callable[["Tensor", "Tensor"], "Tensor"]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of every sample, shape (B,), for logits (B, K) and labels (B,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the largest wrong logit minus the true one, shape (B,); positive means misclassified.

    Unlike the cross-entropy its gradient does not vanish on confident samples (Carlini & Wagner 2017, f6).
    """
    true = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - true


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference of logits ratio, shape (B,): the margin over the gap of the largest and third logit.

    Invariant to shifting and scaling the logits (Croce & Hein 2020, eq. 6). With two classes there is no third logit,
    and the plain margin is returned.
    """
    if logits.shape[1] < 3:
        return margin(logits, labels)
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)


LOSSES: Final[dict[LossName, AttackLoss]] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
"""The losses by the names that attacks use."""
