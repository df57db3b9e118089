"""The method MTT: the host trains the experts, each under a hook of its own; images lead a student along their ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_mtt.config import MTTConfig
from guard_mtt.experts import train_expert
from guard_mtt.matching import latest_start, trajectory_distance
from guard_mtt.presets import PRESETS
from guard_plugins import DistilledSet, LoopState, Method, MethodConfig, Normalised, RunConfig, Task, TeacherSpec
from guard_plugins.data.classwise import Classwise
from guard_plugins.data.dsa import parse_strategy, siamese_augment
from guard_plugins.errors import ConfigError, DataError

LEAST_RATE = 1e-6
"""The learned rate of the student stays above this."""


class MTT(Method):
    """Images on which a student's steps end where epochs on real images lead an expert.

    Cazenavette et al., "Dataset Distillation by Matching Training Trajectories" (CVPR 2022, arXiv 2203.11932); the
    range of epochs that grows, and learned soft labels, are DATM's (Guo et al., ICLR 2024, arXiv 2310.05773).
    """

    name = "mtt"
    summary = "images that lead a student along experts' trajectories (arXiv 2203.11932, 2310.05773)"
    rehearsable = True
    previews = True
    Config: ClassVar[type[MethodConfig]] = MTTConfig
    defaults: ClassVar[Mapping[str, Any]] = {"teacher": {"network": "convnet3"}, "student": {"protocol": "mtt"}}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    labels: ClassVar[Literal["own"]] = "own"
    reads: ClassVar[tuple[str, ...] | None] = (
        "teacher.epochs", "teacher.batch_size", "teacher.lr", "teacher.momentum", "teacher.weight_decay",
    )  # fmt: skip
    config: MTTConfig

    @classmethod
    def idle(cls, config: RunConfig) -> Mapping[str, str]:
        """Return the options that do nothing beside the others."""
        options = config.mtt  # type: ignore[attr-defined]
        found: dict[str, str] = {}
        if options.easy_start is None:
            found["mtt.expansion"] = "only with --mtt.easy-start the range of starts grows"
        if options.labels == "hard":
            found["mtt.lr_labels"] = "only --mtt.labels learned changes labels"
        if options.augment == "none":
            found["mtt.strategy"] = "only --mtt.augment dsa has strategies"
        return found

    def teachers(self) -> Sequence[TeacherSpec]:
        """Return the experts, with their weights at every epoch that a match may begin or end at."""
        options = self.config.mtt
        starts = range(options.earliest_start, options.latest_start)
        epochs = sorted({*starts, *(start + options.expert_epochs for start in starts)})
        return [TeacherSpec(seed=number, snapshots=tuple(epochs)) for number in range(options.experts)]

    def check(self, task: Task, teacher: Normalised | None) -> None:
        """Refuse a range of starts that is empty, an unknown augmentation, and classes without images.

        Raises:
            ConfigError: If an option does not fit.
            DataError: If a class has no training image.
        """
        options = self.config.mtt
        for name in ("latest_start", "easy_start"):
            value = getattr(options, name)
            if value is not None and not options.earliest_start < value <= options.latest_start:
                raise ConfigError(
                    f"No epoch is left to begin a match at (--mtt.{name.replace('_', '-')} {value})",
                    seen=f"earliest start {options.earliest_start}, latest start {options.latest_start}",
                    do="Have earliest-start < easy-start <= latest-start.",
                )
        parse_strategy(options.strategy)
        counts = torch.bincount(task.data.train.labels, minlength=task.classes)
        if not counts.all():
            empty = task.data.classes[int(counts.argmin())]
            raise DataError(f"The class {empty!r} has no training image", do="Remove the class, or add images to it.")

    def train_teacher(self, task: Task, model: Normalised) -> None:
        """Train an expert; the host wraps this function with the hook."""
        train_expert(task, model, self._augment(task, "expert"))

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Return `task.ipc` images of every class, with labels and the student's rate.

        Raises:
            TrainingError: If the distance stops being finite.
        """
        assert teacher is not None
        options, learned = self.config.mtt, self.config.mtt.labels == "learned"
        network = task.network(stage="mtt/frame").network.train()
        classes = torch.arange(task.classes).repeat_interleave(task.ipc)
        pixels = self._start(task, teacher).to(task.device)
        images = teacher.normalise(pixels).requires_grad_()
        low, high = (teacher.normalise(torch.full_like(pixels[:1], value)) for value in (0.0, 1.0))
        rate = torch.tensor(options.lr_student, device=task.device, requires_grad=True)
        hard = F.one_hot(classes, task.classes).float().to(task.device)
        with torch.no_grad():
            labels = teacher(pixels) if learned else hard
        parameters = [
            {"params": [images], "lr": options.lr_images}, {"params": [rate], "lr": options.lr_lr},
            *([{"params": [labels.requires_grad_()], "lr": options.lr_labels, "momentum": 0.9}] if learned else []),
        ]  # fmt: skip
        sgd = torch.optim.SGD(parameters, momentum=options.momentum)
        moved = [images, rate, *([labels] if learned else [])]
        state = LoopState(images=images, rate=rate, labels=labels, sgd=sgd)

        def made() -> DistilledSet:
            pixels = teacher.pixels(images.detach()).clamp(0, 1).cpu()
            return DistilledSet(pixels, classes, labels.detach().cpu().clone(), student_lr=float(rate.detach()))

        for step in task.steps("mtt", options.iterations, state=state, preview=made):
            begin, target = self._drawn(task, step.index)
            targets = F.softmax(labels, dim=1) if learned else labels
            distance = trajectory_distance(
                network, begin, target, images, targets, rate, rows=self._rows(len(images)),
                augment=self._augment(task, f"mtt/{step.index}"),
            )  # fmt: skip
            for value, slope in zip(moved, torch.autograd.grad(distance, moved), strict=True):
                value.grad = slope
            sgd.step()
            with torch.no_grad():
                images.clamp_(low, high)  # so that the stored images are those that were optimised
                rate.clamp_(min=LEAST_RATE)
            step.log(distance=distance.detach(), rate=rate.detach())
        task.report(experts=options.experts, student_rate=rate)
        return made()

    def _drawn(self, task: Task, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return weights and buffers of a random expert at a random epoch and some epochs later, on the device."""
        options = self.config.mtt
        expert = task.teachers[int(torch.randint(len(task.teachers), ()))]
        start = int(torch.randint(options.earliest_start, latest_start(step, options), ()))
        return _inner(expert.at(start), task), _inner(expert.at(start + options.expert_epochs), task)

    def _rows(self, count: int) -> list[Tensor]:
        """Return the images of every step of the student, each drawn once before any is drawn again."""
        options, rows = self.config.mtt, list[Tensor]()
        while len(rows) < options.syn_steps:
            rows += torch.randperm(count).split(options.batch or count)
        return rows[: options.syn_steps]

    def _augment(self, task: Task, name: str) -> Callable[[Tensor, int], Tensor]:
        options = self.config.mtt
        if options.augment == "none":
            return lambda images, step: images
        return lambda images, step: siamese_augment(images, options.strategy, seed=task.seeds.derive(name, "dsa", step))

    def _start(self, task: Task, expert: nn.Module) -> Tensor:
        """Return the first iterate in pixels, class by class, shape (N, C, H, W)."""
        options, generator = self.config.mtt, task.seeds.generator("mtt", "start")
        if options.start == "noise":
            noise = torch.randn((task.classes * task.ipc, *task.data.image_shape), generator=generator)
            mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (task.data.mean, task.data.std))
            return (noise * std + mean).clamp(0, 1)
        real = Classwise(task.data.train, task.classes)
        if options.labels == "hard":
            return torch.cat([real.draw(label, task.ipc, generator) for label in range(task.classes)])
        return torch.cat([self._known(task, expert, real, label, generator) for label in range(task.classes)])

    def _known(self, task: Task, expert: nn.Module, real: Classwise, label: int, generator: torch.Generator) -> Tensor:
        """Return images of a class that the expert knows, as far as there are any (DATM)."""
        drawn = real.draw(label, max(task.ipc, len(real.members[label])), generator)
        with torch.no_grad():
            wrong = torch.cat([expert(part.to(task.device)).argmax(1).cpu() != label for part in drawn.split(500)])
        return drawn[wrong.int().argsort(stable=True)[: task.ipc]]


def _inner(weights: Mapping[str, Tensor], task: Task) -> dict[str, Tensor]:
    """Return the part of a snapshot that belongs to the network on normalised images."""
    inner = {name: value for name, value in weights.items() if name.startswith("network.")}
    return {name.removeprefix("network."): value.to(task.device) for name, value in inner.items()}
