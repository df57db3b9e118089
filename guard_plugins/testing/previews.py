"""The promise of a method that offers its images while it works."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from guard_plugins.data.distilled import DistilledSet
from guard_plugins.pipeline.plugin_calls import problem_with
from guard_plugins.runtime.loop import Between
from guard_plugins.testing.promises import BrokenPromiseError, expecting
from guard_plugins.testing.trial import Trial, run_trial


@dataclass
class _Watcher:
    """Looks at every loop's images half-way and at its end.

    Attributes:
        seen: What the loops offered, in order.
    """

    seen: list[Any] = field(default_factory=list)

    def __call__(self, loop: str, total: int, preview: Callable[[], DistilledSet]) -> Between:
        """Return when to look."""

        def look(done: int) -> None:
            with expecting("preview"):
                self.seen.append(preview())

        return Between(lambda done: done in (max(total // 2, 1), total), look)


def check_preview(first: Trial) -> None:
    """Check: a method that says so offers its images, and these are what they should be.

    Raises:
        BrokenPromiseError: If not, or if a method offers images and does not say so.
    """
    method = first.tiny.method
    if method.previews != first.offered:
        raise BrokenPromiseError(
            "preview",
            f"previews = {method.previews}, but {'a' if first.offered else 'no'} loop has a `preview`",
            "Write task.steps(..., preview=made) and previews = True, or neither.",
        )
    if not method.previews:
        return
    watcher, tiny = _Watcher(), first.tiny.having()
    tiny = replace(tiny, task=replace(tiny.task, validator=watcher))
    again = run_trial(tiny, ambient=6, teacher=copy.deepcopy(first.teacher))
    for offered in watcher.seen:
        problem = problem_with(offered, first.tiny.task, method, whole=False)
        if problem is not None:
            raise BrokenPromiseError("preview", problem, "Return a DistilledSet, as `distill` does.")
    if not torch.equal(again.distilled.images, first.distilled.images):
        raise BrokenPromiseError("preview", "the images of the set differ after somebody looked", "Copy, then change.")
    last, made = watcher.seen[-1], again.distilled
    if len(last.labels) == len(made.labels) and not torch.equal(last.images, made.images):
        raise BrokenPromiseError(
            "preview", "after the last step it is another set than `distill` returns",
            "Compute both by one function: `return made()`.",
        )  # fmt: skip
