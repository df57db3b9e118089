"""Recovery: gradient descent on the images until the frozen teacher classifies them and sees its own statistics."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from guard_plugins.distilled import DistilledSet
from guard_plugins.loop import LoopState
from guard_plugins.networks.normalised import Normalised
from guard_plugins.task import Task
from guard_sre2l.config import RecoverConfig
from guard_sre2l.statistics import StatisticsLoss
from guard_sre2l.views import random_view

CropScale = Callable[[int, int], float]
"""From (step, number of steps) to the smallest area share of the crop at that step."""


def recover(task: Task, teacher: Normalised, settings: RecoverConfig, *, crop_scale: CropScale) -> DistilledSet:
    """Return ``task.ipc`` recovered images of every class (SRe2L, arXiv 2306.13092, recover stage).

    Args:
        task: Gives images per class, seeds, device and progress.
        teacher: The frozen teacher in eval mode, with BatchNorm.
        settings: The constants of the optimisation.
        crop_scale: The crop's lower bound over the steps; constant in SRe2L, a curriculum in CDA.

    Raises:
        TrainingError: If the loss stops being finite.
    """
    batches = work_list(task.classes, task.ipc, settings.batch, mix_copies=settings.mix_copies)
    images = torch.cat(
        [_recover_batch(task, teacher, labels, settings, crop_scale, item) for item, labels in enumerate(batches)]
    )
    labels = torch.cat(batches)
    with torch.no_grad():
        soft = torch.cat([teacher(part.to(task.device)).float().cpu() for part in images.split(settings.batch)])
    return DistilledSet(images, labels, soft)


def work_list(classes: int, ipc: int, batch: int, *, mix_copies: bool) -> list[Tensor]:
    """Return the labels of every batch to recover, at most ``batch`` long.

    The published code makes one image per class at a time, which for 10 classes is a batch of 10: too few to match
    BatchNorm statistics on. With ``mix_copies``, batches run on across the images of a class.
    """
    order = torch.arange(classes).repeat(ipc)
    copies = [order] if mix_copies else list(order.split(classes))
    return [labels for copy in copies for labels in copy.split(batch)]


def _recover_batch(
    task: Task, teacher: Normalised, labels: Tensor, settings: RecoverConfig, crop_scale: CropScale, item: int
) -> Tensor:
    """Return recovered pixels in [0, 1], shape (len(labels), C, H, W), on the CPU."""
    stage, targets = f"recover/{item}", labels.to(task.device)
    start = torch.randn((len(labels), *task.data.image_shape), generator=task.seeds.generator(stage, "start"))
    x = start.to(task.device).requires_grad_()
    adam = torch.optim.Adam([x], lr=settings.lr, betas=(settings.beta1, settings.beta2), eps=1e-8)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(adam, settings.iterations)
    low, high = (teacher.normalise(torch.full_like(x[:1], bound)).amax((2, 3), keepdim=True) for bound in (0.0, 1.0))
    with StatisticsLoss(teacher.network, first=settings.first_bn) as statistics:
        for step in task.steps(stage, settings.iterations, state=LoopState(images=x, adam=adam, scheduler=scheduler)):
            scale = crop_scale(step.index, settings.iterations)
            view = random_view(x, crop_scale=scale, flip=settings.flip, jitter=settings.jitter)
            classification = F.cross_entropy(teacher.network(view), targets)
            matching = statistics.value()
            (x.grad,) = torch.autograd.grad(classification + settings.r_bn * matching, [x])
            adam.step()
            scheduler.step()
            with torch.no_grad():
                x.clamp_(low, high)
            step.log(ce=classification.detach(), bn=matching.detach())
    return teacher.pixels(x.detach()).clamp(0, 1).cpu()
