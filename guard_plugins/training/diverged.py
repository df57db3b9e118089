"""Whether a training that ended has left a network that can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from guard_plugins.artifacts.teacher import calmer
from guard_plugins.errors import TrainingError
from guard_plugins.runtime.eval_mode import borrowed, device_of

if TYPE_CHECKING:
    from torch import nn

    from guard_plugins.data.base import Data

_LOOKED_AT: Final = 32
"""Training images that are tried; one is enough where weights or statistics are out of hand."""


@torch.no_grad()
def require_finite_logits(model: nn.Module, data: Data, *, who: str) -> None:
    """Refuse a network that was just trained and whose logits are NaN or infinite, though its last loss was a number.

    The last step, or statistics of BatchNorm that are out of hand, show in eval mode only. What uses the network next
    would fail, and blame its own settings.

    Args:
        model: From images in [0, 1] to logits; its mode is given back.
        data: The data set, of which a few training images are tried.
        who: ``teacher`` or ``student``.

    Raises:
        TrainingError: If a logit is not finite.
    """
    images = data.train.images(torch.arange(min(_LOOKED_AT, len(data.train)))).to(device_of(model))
    with borrowed(model):
        bad = ~torch.isfinite(model(images)).flatten(1).all(dim=1)
    if bad.any():
        raise TrainingError(
            f"The {who}'s training ended in a network whose logits are not finite numbers",
            seen=f"NaN or infinity for {int(bad.sum())} of {len(bad)} training images",
            do=calmer(who),
        )  # fmt: skip
