"""Recovery: gradient descent on images, so that the teacher classifies them and their BatchNorm statistics match."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from guard_plugins.data.distilled import DistilledSet
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.loop import LoopState
from guard_plugins.runtime.task import Task
from guard_sre2l.augmentation import random_view
from guard_sre2l.config import RecoverConfig
from guard_sre2l.initialisation import first_iterate, work_list
from guard_sre2l.statistics import StatisticsLoss

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
    recovery = Recovery(task, teacher, settings, crop_scale)
    images = task.items("recover", len(batches), lambda item: recovery.batch(batches[item], f"recover/{item}"))
    with torch.no_grad():
        soft = torch.cat([teacher(part.to(task.device)).float().cpu() for part in images.split(settings.batch)])
    return DistilledSet(images, torch.cat(batches), soft)


class Recovery:
    """The optimisation of batches for one teacher.

    Args:
        task: Gives seeds, device and progress.
        teacher: The frozen teacher in eval mode.
        settings: The constants of the optimisation.
        crop_scale: The crop's lower bound over the steps.
    """

    def __init__(self, task: Task, teacher: Normalised, settings: RecoverConfig, crop_scale: CropScale) -> None:
        self._task, self._teacher, self._settings, self._crop_scale = task, teacher, settings, crop_scale
        # A copy: results round differently in another memory layout, and later uses of the teacher must not change.
        self._network = copy.deepcopy(teacher.network)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs miss this form
        bounds = [torch.full((1, *task.data.image_shape), value, device=task.device) for value in (0.0, 1.0)]
        self._low, self._high = (teacher.normalise(bound) for bound in bounds)

    def batch(self, labels: Tensor, stage: str) -> Tensor:
        """Return recovered pixels in [0, 1], shape (len(labels), C, H, W), on the CPU.

        Args:
            labels: Class of every image, int64.
            stage: Name of the loop; the first iterate and the views depend on it.
        """
        settings, targets = self._settings, labels.to(self._task.device)
        start = first_iterate(self._task, self._teacher, labels, settings, stage)
        x = start.contiguous(memory_format=torch.channels_last).requires_grad_()
        adam = torch.optim.Adam([x], lr=settings.lr, betas=(settings.beta1, settings.beta2), eps=1e-8)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(adam, settings.iterations)
        state = LoopState(images=x, adam=adam, scheduler=scheduler)
        with StatisticsLoss(self._network, first=settings.first_bn) as statistics:
            for step in self._task.steps(
                stage, settings.iterations, state=state, preview=lambda: DistilledSet(self._pixels(x), labels)
            ):
                view = self._view(x, self._crop_scale(step.index, settings.iterations))
                classification, matching = self._loss(view, targets, statistics)
                (x.grad,) = torch.autograd.grad(classification + settings.r_bn * matching, [x])
                adam.step()
                scheduler.step()
                with torch.no_grad():
                    x.clamp_(self._low, self._high)
                step.log(ce=classification.detach(), bn=matching.detach())
        return self._pixels(x)

    def _pixels(self, x: Tensor) -> Tensor:
        return self._teacher.pixels(x.detach()).clamp(0, 1).cpu().contiguous()

    def _view(self, x: Tensor, crop_scale: float) -> Tensor:
        return random_view(x, crop_scale=crop_scale, flip=self._settings.flip, jitter=self._settings.jitter)

    def _loss(self, view: Tensor, targets: Tensor, statistics: StatisticsLoss) -> tuple[Tensor, Tensor]:
        reduced = self._settings.precision == "bfloat16"
        with torch.autocast(view.device.type, torch.bfloat16, enabled=reduced):
            logits = self._network(view)
        return F.cross_entropy(logits.float(), targets), statistics.value()
