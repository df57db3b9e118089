"""A plugin for tests of several processes: every item does forward passes that are counted, and one may fail."""

from __future__ import annotations

import atexit
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import torch

from guard_plugins import DistilledSet, LoopState, Method, MethodConfig, hookimpl
from guard_plugins.errors import DataError

COUNTED: Counter[str] = Counter()


class FaultyConfig(MethodConfig):
    """What goes wrong, and in which item."""

    fault: str = "none"
    where: int = -1
    items: int = 5
    steps: int = 4


class Faulty(Method):
    """Images of means of the classes, by way of a few forward passes."""

    name = "faulty"
    summary = "for tests"
    labels = "hard"
    Config: ClassVar[type[MethodConfig]] = FaultyConfig

    def distill(self, task, teacher):
        """Make the items; each is a part of the classes."""
        options, network = self.config, teacher.requires_grad_(False)

        def make(item):
            images = torch.full((task.classes // options.items, *task.data.image_shape), 0.1 * (item + 1))
            state = LoopState(images=images)
            for step in task.steps(f"make/{item}", options.steps, state=state):
                if item == options.where and options.fault == "file":
                    raise DataError("The image 7.png is broken", seen="it ends early")
                loss = network(images.to(task.device)).square().mean()
                COUNTED["forwards"] += 1
                images.mul_(0.9)
                time.sleep(float(os.environ.get("PAUSE", "0")))
                step.log(loss=loss * float("nan") if item == options.where and options.fault == "nan" else loss)
            return images

        images = task.items("make", options.items, make)
        return DistilledSet(images, torch.arange(task.classes))


@hookimpl
def register_methods():
    """Register the method."""
    return [Faulty]


@atexit.register
def _write():
    if "COUNTS" in os.environ:
        Path(os.environ["COUNTS"], os.environ.get("RANK", "alone")).write_text(json.dumps(COUNTED))
