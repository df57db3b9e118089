"""The student's steps on distilled images, and how far they end from where an expert's real ones lead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from guard_mtt.config import MTTOptions

Weights = Mapping[str, Tensor]


def latest_start(step: int, options: MTTOptions) -> int:
    """Return before which epoch a match begins at a step: it grows along a line where DATM's choice is asked for.

    Args:
        step: Number of the step, from 0.
        options: Its bounds, and the steps it grows for.
    """
    if options.easy_start is None:
        return options.latest_start
    grown = (options.latest_start - options.easy_start) * step // options.expansion
    return min(options.easy_start + grown, options.latest_start)


def trajectory_distance(
    network: nn.Module, start: Weights, target: Weights, images: Tensor, labels: Tensor, rate: Tensor,
    *, rows: Sequence[Tensor], augment: Callable[[Tensor, int], Tensor],
) -> Tensor:  # fmt: skip
    """Return ||student - target||² / ||start - target||² (MTT, equation 2), differentiable in images, labels and rate.

    Args:
        network: The architecture on normalised images, in train mode; its own weights are not read.
        start: The expert's weights and buffers where the student begins.
        target: Those some epochs later.
        images: The distilled images, normalised, shape (N, C, H, W).
        labels: Their labels as probabilities, shape (N, K).
        rate: The student's rate, a scalar.
        rows: The images of every step of the student.
        augment: From a batch and the number of the step to the augmented batch.
    """
    names = [name for name, _ in network.named_parameters()]
    # Copies, since BatchNorm changes its buffers in place.
    buffers = {name: start[name].clone() for name, _ in network.named_buffers()}
    weights = {name: start[name].clone().requires_grad_() for name in names}
    for number, index in enumerate(rows):
        logits = functional_call(network, ({**weights, **buffers}), (augment(images[index], number),))
        loss = F.cross_entropy(logits, labels[index])
        slopes = torch.autograd.grad(loss, [*weights.values()], create_graph=True)
        weights = {name: weights[name] - rate * slope for name, slope in zip(names, slopes, strict=True)}
    off = torch.stack([(weights[name] - target[name]).square().sum() for name in names]).sum()
    way = torch.stack([(start[name] - target[name]).square().sum() for name in names]).sum()
    return off / torch.where(way > 0, way, 1.0)  # an expert that did not move gives no scale
