"""MixUp and CutMix: every image of a batch mixed with another image of the same batch.

What is random is drawn first, from PyTorch's global stream, and applied afterwards.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Mix(NamedTuple):
    """How the images of a batch are mixed: blended, or one box pasted in; all on the CPU.

    Attributes:
        partner: Position in the batch of every image's partner, int64 of shape (B,).
        share: Share of the image itself, lambda in the papers; the partner has the rest. float64 of shape (B,), or (1,)
            for one that all share.
        box: Top, bottom, left and right (exclusive) of what is pasted, int64 of shape (B, 4) or (1, 4); None to blend.
    """

    partner: Tensor
    share: Tensor
    box: Tensor | None = None

    def of(self, images: Tensor) -> Tensor:
        """Return the images (B, C, H, W), each mixed with its partner."""
        return mix(images, images[self.partner.to(images.device)], self)

    def targets(self, targets: Tensor) -> Tensor:
        """Return one-hot or soft targets (B, K), floating point, mixed like the images."""
        return targets.lerp(targets[self.partner.to(targets.device)], (1 - self.share).to(targets).view(-1, 1))


def draw_mixup(count: int, *, alpha: float) -> Mix:
    """Return partners of ``count`` images and one lambda ~ Beta(alpha, alpha) (Zhang et al., ICLR 2018).

    Args:
        count: Images of the batch.
        alpha: Both parameters of the Beta distribution; 0 leaves the images unmixed.
    """
    share = _share(alpha)
    return Mix(torch.randperm(count), torch.tensor([share], dtype=torch.float64))


def draw_cutmix(count: int, size: tuple[int, int], *, alpha: float) -> Mix:
    """Return partners of ``count`` images and one box (Yun et al., ICCV 2019).

    The box covers 1 - lambda of the area, lambda ~ Beta(alpha, alpha), around a uniform centre, cut off at the border;
    ``share`` is what is left of the image after that.

    Args:
        count: Images of the batch.
        size: Their (H, W).
        alpha: Both parameters of the Beta distribution; 0 leaves the images unmixed.
    """
    share, partner = _share(alpha), torch.randperm(count)
    top, bottom = _interval(size[0], share)
    left, right = _interval(size[1], share)
    own = 1 - (bottom - top) * (right - left) / (size[0] * size[1])
    return Mix(partner, torch.tensor([own], dtype=torch.float64), torch.tensor([[top, bottom, left, right]]))


def mix(images: Tensor, partners: Tensor, how: Mix) -> Tensor:
    """Return every image mixed with the partner that lies beside it, shape (B, C, H, W).

    Args:
        images: Shape (B, C, H, W).
        partners: Same shape.
        how: Shares or boxes; its ``partner`` is not looked at.
    """
    if how.box is None:
        rest = 1 - how.share
        # One number for all takes a quarter of the time of a tensor of them, and gives the same bits.
        return images.lerp(partners, float(rest) if len(rest) == 1 else rest.to(images).view(-1, 1, 1, 1))
    top, bottom, left, right = how.box.to(images.device).view(-1, 4, 1).unbind(1)
    rows, columns = (torch.arange(side, device=images.device) for side in images.shape[-2:])
    inside = ((rows >= top) & (rows < bottom)).unsqueeze(2) & ((columns >= left) & (columns < right)).unsqueeze(1)
    return torch.where(inside.unsqueeze(1), partners, images)


def _share(alpha: float) -> float:
    if alpha <= 0:
        return 1.0
    return float(torch.distributions.Beta(torch.tensor(alpha, dtype=torch.float64), alpha).sample())


def _interval(size: int, share: float) -> tuple[int, int]:
    """Return the part of an axis the box covers."""
    half = int(size * math.sqrt(1 - share)) // 2
    centre = int(torch.randint(size, ()))
    return max(centre - half, 0), min(centre + half, size)
