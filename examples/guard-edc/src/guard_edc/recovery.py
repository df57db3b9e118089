"""Recovery: every step moves all images by the statistics and the classes of one backbone, in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from guard_edc.config import EDCOptions
from guard_edc.statistics import Inputs, Statistics
from guard_plugins import DistilledSet, LoopState, Normalised, Task
from guard_plugins.data.augment import random_horizontal_flip, random_resized_crop


@dataclass
class Backbone:
    """A backbone, and what it saw and sees.

    Attributes:
        model: The trained network, in eval mode.
        real: The statistics of real images.
        kept: Running mean of the statistics of the images that are made, shape (D,); from 0, as published.
    """

    model: Normalised
    real: Statistics
    kept: Tensor


def recover(
    task: Task, backbones: Sequence[Backbone], start: Tensor, labels: Tensor, options: EDCOptions
) -> DistilledSet:
    """Return the images after all steps.

    Args:
        task: Gives device and progress.
        backbones: The backbones; step ``i`` uses number ``i`` of them, and begins again after the last.
        start: The first iterate in pixels, shape (N, C, H, W), on the device.
        labels: Class of every image, on the device.
        options: The constants.

    Raises:
        TrainingError: If the loss stops being finite.
    """
    space = backbones[0].model  # all networks of a task have the same normalisation
    low, high = (space.normalise(torch.full_like(start[:1], value)) for value in (0.0, 1.0))
    images = space.normalise(start).requires_grad_()
    smooth = images.detach().clone()
    adam = torch.optim.Adam([images], lr=options.lr, betas=(0.5, 0.9), eps=1e-8)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, options.iterations)
    kept = {f"kept{number}": backbone.kept for number, backbone in enumerate(backbones)}
    state = LoopState(images=images, smooth=smooth, adam=adam, cosine=cosine, **kept)

    def made() -> DistilledSet:
        return DistilledSet(space.pixels(images.detach()).clamp(0, 1).cpu(), labels.cpu())

    for step in task.steps("recover", options.iterations, state=state, preview=made):
        parts = losses(backbones[step.index % len(backbones)], images, smooth, labels, options)
        (images.grad,) = torch.autograd.grad(sum(parts.values(), torch.zeros_like(parts["ce"])), [images])
        with torch.no_grad():
            smooth.lerp_(images, 1 - options.flatness_decay)
        adam.step()
        cosine.step()
        with torch.no_grad():
            images.clamp_(low, high)
        step.log(**{name: part.detach() for name, part in parts.items()})
    return made()


def losses(
    backbone: Backbone, images: Tensor, smooth: Tensor, labels: Tensor, options: EDCOptions
) -> dict[str, Tensor]:
    """Return the weighted losses of a step by name, scalars; the running mean of the statistics takes the batch in.

    Args:
        backbone: The backbone of the step.
        images: The images, normalised, shape (N, C, H, W).
        smooth: Their running mean.
        labels: Class of every image.
        options: The constants.
    """
    view = random_view(torch.cat([images, smooth]), crop_scale=options.crop_scale, flip=options.flip)
    mine, others = view.split(len(images))
    with Inputs(backbone.real.layers) as inputs:
        logits = backbone.model.network(mine)
        observed = torch.cat(inputs.vectors())
    backbone.kept.mul_(options.momentum).add_(observed.detach(), alpha=1 - options.momentum)
    distance = backbone.real.distance(observed, backbone.kept, labels, alpha=options.alpha)
    found = {"ce": F.cross_entropy(logits, labels), "statistics": options.weight * distance}
    if options.flatness:
        with torch.no_grad():
            calm = F.log_softmax(backbone.model.network(others) / options.flatness_temperature, dim=1)
        mine_log = F.log_softmax(logits / options.flatness_temperature, dim=1)
        # The mean over images and classes, as published.
        found["flatness"] = options.flatness * (calm.exp() * (calm - mine_log)).mean()
    return found


def random_view(images: Tensor, *, crop_scale: float, flip: bool) -> Tensor:
    """Return one random view of a batch (N, C, H, W), the same crop and flip for all, from PyTorch's global stream.

    Args:
        images: The images.
        crop_scale: Smallest area share of the crop; 1 turns it off.
        flip: Whether half of the views are mirrored.
    """
    if crop_scale < 1:
        images = random_resized_crop(images, scale=(crop_scale, 1.0), shared=True)
    return random_horizontal_flip(images, shared=True) if flip else images
