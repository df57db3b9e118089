"""Adversarially robust dataset distillation: a curvature hook for any training loop, and methods as plugins."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from guard_plugins._version import __version__
from guard_plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from guard_plugins.artifacts.report import Report
    from guard_plugins.artifacts.sets.open_set import load_distilled
    from guard_plugins.config import RunConfig
    from guard_plugins.curvature import CurvatureHook
    from guard_plugins.data.distilled import DistilledSet
    from guard_plugins.host.configure import configure
    from guard_plugins.method import Method, MethodConfig
    from guard_plugins.networks.normalised import Normalised
    from guard_plugins.pipeline.result import Run
    from guard_plugins.pipeline.run import run
    from guard_plugins.pipeline.standalone.load_data import load_data
    from guard_plugins.pipeline.standalone.own_model import evaluate
    from guard_plugins.pipeline.standalone.own_teacher import save_teacher
    from guard_plugins.runtime.loop import LoopState
    from guard_plugins.runtime.task import Task
    from guard_plugins.runtime.teachers import TeacherSpec

__all__ = [
    "CurvatureHook",
    "DistilledSet",
    "LoopState",
    "Method",
    "MethodConfig",
    "Normalised",
    "Report",
    "Run",
    "RunConfig",
    "Task",
    "TeacherSpec",
    "__version__",
    "configure",
    "evaluate",
    "hookimpl",
    "load_data",
    "load_distilled",
    "run",
    "save_teacher",
]

# Imported on first use, so that `import guard_plugins` (and every listing) does not import torch.
_LAZY: Final = {
    "CurvatureHook": "guard_plugins.curvature",
    "DistilledSet": "guard_plugins.data.distilled",
    "LoopState": "guard_plugins.runtime.loop",
    "Method": "guard_plugins.method",
    "MethodConfig": "guard_plugins.method",
    "Normalised": "guard_plugins.networks.normalised",
    "Report": "guard_plugins.artifacts.report",
    "Run": "guard_plugins.pipeline.result",
    "RunConfig": "guard_plugins.config",
    "Task": "guard_plugins.runtime.task",
    "TeacherSpec": "guard_plugins.runtime.teachers",
    "configure": "guard_plugins.host.configure",
    "evaluate": "guard_plugins.pipeline.standalone.own_model",
    "load_data": "guard_plugins.pipeline.standalone.load_data",
    "load_distilled": "guard_plugins.artifacts.sets.open_set",
    "run": "guard_plugins.pipeline.run",
    "save_teacher": "guard_plugins.pipeline.standalone.own_teacher",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'guard_plugins' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
