"""Calls into a plugin's code; every error there names the plugin, its distribution and what to do."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.soft_labels import logits_of
from guard_plugins.errors import GuardError, PluginError
from guard_plugins.host import Registered
from guard_plugins.host.registry import whom_to_ask
from guard_plugins.method import Method
from guard_plugins.runtime.memory import out_of_memory
from guard_plugins.runtime.task import Task

HOOK_DOES_NOT_APPLY: Final = (
    "The curvature hook does not apply to the method {name!r}: it differentiates no loss on real data (`guarded` is "
    "empty). The guard settings have no effect, and the report's `guard` is null."
)
"""What a run says where a method names nothing to guard."""


@contextlib.contextmanager
def calling(plugin: Registered[Any], doing: str, *, run: Path | None = None) -> Iterator[None]:
    """Turn what a plugin's code raises into a PluginError; the project's own errors and exhausted memory pass.

    ``sys.exit`` counts as such. The default dtype, the switch of gradients and the working folder, below which the
    run's files may be, are put back afterwards.

    Args:
        plugin: Whose code is called.
        doing: What it is asked to do, such as ``distill``.
        run: Folder of the run, once it holds finished work to go on from.

    Raises:
        PluginError: If the code raises anything else; the original is its cause. With ``GUARD_STRICT_PLUGINS=1`` the
            original passes, too.
    """
    dtype, gradients, here = torch.get_default_dtype(), torch.is_grad_enabled(), _here()
    try:
        yield
    except GuardError:
        raise
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        if out_of_memory(error) or os.environ.get("GUARD_STRICT_PLUGINS") == "1":
            raise
        kept = f" Finished work is kept: `guard-run --resume {run}` goes on from it." if run is not None else ""
        raise PluginError(
            f"{plugin.value.name!r} of {plugin.origin} failed in {doing}: {type(error).__name__}: {error}",
            seen="".join(traceback.format_exception(error)).strip(),
            do=f"{whom_to_ask(plugin.origin)}; other methods still work.{kept}",
        ) from error
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        if here is not None and _here() != here:
            with contextlib.suppress(OSError):  # it may be gone
                os.chdir(here)


def _here() -> Path | None:
    """Return the working folder; None where it was removed."""
    try:
        return Path.cwd()
    except OSError:
        return None


def checked_set(
    plugin: Registered[Any], distilled: object, task: Task, *, source: str = "distill", whole: bool = True
) -> DistilledSet:
    """Return what ``distill`` returned, if it is a distilled set as every method must return it.

    Soft labels that are probabilities become their logarithms, since stored ones are logits.

    Args:
        plugin: Whose method returned it.
        distilled: What was returned.
        task: Says how many images of which shape and classes there must be.
        source: What returned it.
        whole: Whether it must be the whole set.

    Raises:
        PluginError: If it is not.
    """
    problem = problem_with(distilled, task, plugin.value, whole=whole)
    if problem is None:
        assert isinstance(distilled, DistilledSet)
        soft = distilled.soft_labels
        return distilled if soft is None else replace(distilled, soft_labels=logits_of(soft))
    raise PluginError(
        f"The distilled set of {plugin.value.name!r} of {plugin.origin} is not what `{source}` must return: {problem}",
        do=f"{whom_to_ask(plugin.origin)}; other methods still work.",
    )


def problem_with(distilled: object, task: Task, method: Method | type[Method], *, whole: bool = True) -> str | None:
    """Return how ``distilled`` differs from ``task.ipc`` images of every class with labels, or None.

    Shapes, range and finiteness are already :class:`DistilledSet`'s own affair.

    Args:
        distilled: What ``distill`` returned.
        task: Says how many images of which shape and classes there must be.
        method: Says whether the set must have soft labels.
        whole: Whether all images must be there.
    """
    if not isinstance(distilled, DistilledSet):
        return f"it is a {type(distilled).__name__}, not a DistilledSet"
    images, classes = distilled.images, distilled.labels
    if tuple(images.shape[1:]) != task.data.image_shape:
        return f"images of shape {tuple(images.shape[1:])}, but the data has {task.data.image_shape}"
    for name, tensor, dtype in (("images", images, torch.float32), ("labels", classes, torch.int64)):
        if tensor.dtype != dtype or tensor.device.type != "cpu" or tensor.requires_grad:
            return f"{name} must be plain {dtype} on the CPU, but are {_description(tensor)}"
    says = "labels = 'own'" if method.labels == "own" else "returns_soft_labels = True"
    if (method.labels == "own" or method.returns_soft_labels) and distilled.soft_labels is None:
        return f"the method says {says}, but the set has no soft labels"
    return _wrong_labels(classes, task, whole=whole) or _wrong_soft_labels(distilled.soft_labels, task.classes)


def _wrong_labels(labels: Tensor, task: Task, *, whole: bool) -> str | None:
    if labels.max() >= task.classes:
        return f"labels from {int(labels.min())} to {int(labels.max())}, but there are {task.classes} classes"
    counts = torch.bincount(labels, minlength=task.classes)
    label = int((counts != task.ipc).int().argmax())
    if counts[label] == task.ipc or not whole:
        return None
    return f"{int(counts[label])} images of class {task.data.classes[label]!r}, but --ipc {task.ipc}"


def _wrong_soft_labels(soft: Tensor | None, classes: int) -> str | None:
    if soft is None:
        return None
    if soft.shape[-1] != classes:
        return f"soft labels of shape {tuple(soft.shape)}, not for {classes} classes"
    if soft.dtype != torch.float32 or soft.device.type != "cpu" or soft.requires_grad:
        return f"soft labels must be plain torch.float32 on the CPU, but are {_description(soft)}"
    return None


def _description(tensor: Tensor) -> str:
    return f"{tensor.dtype} on {tensor.device}" + (" with a gradient" if tensor.requires_grad else "")
