"""Measures models under a protocol, and averages the results of several models of a kind."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from guard_plugins.artifacts.report import ModelReport, RobustAccuracy
from guard_plugins.attacks.base import Attack
from guard_plugins.evaluation.accuracy import AttackResult, Underway, attack_accuracy, clean_accuracy
from guard_plugins.evaluation.images import SelectedImages
from guard_plugins.evaluation.protocols import Protocol
from guard_plugins.runtime.items import do_items
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.resumable import WorkList
from guard_plugins.runtime.task import Task

MOST: Final = 500
"""Images of a batch at most."""
CPU_PIXELS: Final = 2**17
"""Pixels of a batch on a CPU, 128 images of 32x32.

In larger batches the memory of every activation is mapped anew, and the system clears its pages first. On one core,
input gradients of 512 such images through the small ResNet took 0.68 s in one batch, 0.48 s in batches of 256 and
0.35 s in batches of 128 or 64.
"""


@dataclass(frozen=True, eq=False)
class Measured:
    """What a protocol found on one model.

    Attributes:
        clean: Share of the test images classified correctly.
        results: One result for every attack and radius, in the protocol's order.
    """

    clean: float
    results: Sequence[AttackResult]

    def report(self) -> ModelReport:
        """Return the accuracies as reports hold them."""
        robust = [
            RobustAccuracy(attack=it.attack, norm=it.norm, eps=it.eps, accuracy=it.accuracy, images=it.images)
            for it in self.results
        ]
        return ModelReport(clean=self.clean, robust=robust)


def measure(
    task: Task, models: Sequence[nn.Module], protocol: Protocol, attacks: Mapping[str, type[Attack]], *, name: str
) -> list[Measured]:
    """Return clean accuracy and the result of every attack of the protocol for each of ``models``.

    Args:
        task: Gives test images, settings (section ``evaluation``), seeds and progress.
        models: Models of one kind (pixels in, logits out).
        protocol: The attacks and radii.
        attacks: The registered attacks by name.
        name: What to call the models in progress bars and seeds.

    Raises:
        ConfigError: If an attack is not registered.
        TrainingError: If a model's logits are not finite.
        StoppedError: If the run was asked to stop; finished results are saved.
    """
    images, labels = attacked_images(task)
    items = _items(models, protocol, attacks)
    work = WorkList(task.keeper, _list(name), read=_result, write=vars)
    with task.monitor.track(f"attack {name}", len(items) * len(labels), done=len(work.results) * len(labels)) as bar:
        for item in range(len(work.results), len(items)):
            result = _made_before(task, _item(name, item))
            if result is None:
                number, attack, eps = items[item]
                result = attack_accuracy(
                    models[number], attack, images, labels, eps=eps, batch_size=attack_batch(task),
                    seeds=task.seeds.child("evaluation", name, number),
                    progress=_ticks(bar.advance, task.keeper.stop.check), begun=_underway(work.underway),
                    save=lambda state: work.keep(vars(state)),
                )  # fmt: skip
            else:
                bar.advance(len(labels))
            work.add(result, last=item + 1 == len(items))
    size, per_model = attack_batch(task), len(items) // len(models)
    return [
        Measured(
            clean_accuracy(model, images, labels, batch_size=size),
            work.results[number * per_model : (number + 1) * per_model],
        )
        for number, model in enumerate(models)
    ]


@dataclass(frozen=True)
class Attacked:
    """Models of one kind, for :func:`share_attacks`.

    Attributes:
        name: What :func:`measure` calls them.
        models: The models.
        kept: Where the results go, as the task of :func:`measure` says it.
    """

    name: str
    models: Sequence[nn.Module]
    kept: Checkpoints


def share_attacks(
    task: Task, kinds: Sequence[Attacked], protocol: Protocol, attacks: Mapping[str, type[Attack]]
) -> None:
    """Do the attacks that are this process's share; :func:`measure` then finds their results.

    Args:
        task: As for :func:`measure`.
        kinds: The models of every kind.
        protocol: The attacks and radii.
        attacks: The registered attacks by name.

    Raises:
        ShareDone: If the process has a share, when that is done.
    """
    images, labels = attacked_images(task)
    items = [
        (kind, number, item) for kind in kinds for number, item in enumerate(_items(kind.models, protocol, attacks))
    ]
    names = [_item(kind.name, number) for kind, number, _ in items]
    # By a process that did all attacks itself.
    listed = {kind.name: kind.kept.peek(_list(kind.name)) or 0 for kind in kinds}

    def make(number: int) -> None:
        kind, _, (which, attack, eps) = items[number]
        with task.monitor.track(names[number], len(labels)) as bar:
            result = attack_accuracy(
                kind.models[which], attack, images, labels, eps=eps, batch_size=attack_batch(task),
                seeds=task.seeds.child("evaluation", kind.name, which),
                progress=_ticks(bar.advance, task.keeper.stop.check),
            )  # fmt: skip
        kind.kept.save(names[number], 1, lambda: {"result": vars(result)})

    def done(number: int) -> bool:
        kind, index, _ = items[number]
        return index < listed[kind.name] or kind.kept.peek(names[number]) is not None

    do_items(task.keeper, names, make=make, say=task.monitor.say, done=done)


def _items(
    models: Sequence[nn.Module], protocol: Protocol, attacks: Mapping[str, type[Attack]]
) -> list[tuple[int, Attack, float]]:
    return [(n, attack, eps) for n in range(len(models)) for attack, radii in protocol.build(attacks) for eps in radii]


def _list(name: str) -> str:
    return f"evaluation/{name}"


def _item(name: str, number: int) -> str:
    return f"item/attack/{name}/{number}"


def _made_before(task: Task, item: str) -> AttackResult | None:
    """Return the result of an attack that a process did as its share."""
    saved = task.keeper.checkpoints.load(item)
    if saved is None:
        return None
    try:
        return _result(saved[1]["result"])
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise task.keeper.checkpoints.unusable(item, f"{type(error).__name__}: {error}") from error


def _result(saved: dict[str, Any]) -> AttackResult:
    return AttackResult(**{**saved, "parts": tuple((label, accuracy) for label, accuracy in saved["parts"])})


def _underway(saved: Mapping[str, Any] | None) -> Underway | None:
    if saved is None:
        return None
    return Underway(**{**saved, "parts": [(label, accuracy) for label, accuracy in saved["parts"]]})


def attack_batch(task: Task) -> int:
    """Return ``evaluation.batch_size``; if it is not set, a size that suits the device and the images."""
    asked = task.config.evaluation.batch_size
    if asked is not None:
        return asked
    if task.device.type != "cpu":
        return MOST
    _, height, width = task.data.image_shape
    return min(MOST, max(1, CPU_PIXELS // (height * width)))


def attacked_images(task: Task, most: int | None = None) -> tuple[SelectedImages, Tensor]:
    """Return the test images and labels that the attacks run on, evenly selected if there are more than ``most``.

    The images are read batch by batch.
    """
    test = task.data.test
    count = min(len(test), task.config.evaluation.images or len(test), most or len(test))
    # Spread over the whole set, since many sets are stored class by class.
    index = torch.linspace(0, len(test) - 1, count).round().long()
    return SelectedImages(test, index), test.labels[index]


def averaged(reports: Sequence[ModelReport]) -> ModelReport:
    """Return mean and standard deviation over the reports of several models of a kind; a single report as it is."""
    if len(reports) == 1:
        return reports[0]
    robust = [
        entries[0].model_copy(
            update={
                "accuracy": statistics.mean(entry.accuracy for entry in entries),
                "sd": statistics.stdev(entry.accuracy for entry in entries),
            }
        )
        for entries in zip(*(report.robust for report in reports), strict=True)
    ]
    clean = [report.clean for report in reports]
    return ModelReport(clean=statistics.mean(clean), sd=statistics.stdev(clean), models=len(reports), robust=robust)


def _ticks(advance: Callable[[int], None], check: Callable[[], None]) -> Callable[[int, int], None]:
    """Turn (done, total) into increments of a progress bar; the run may be stopped at each of them."""
    done = 0

    def progress(now: int, _total: int) -> None:
        nonlocal done
        advance(now - done)
        done = now
        check()

    return progress
