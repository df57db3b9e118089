"""The configuration of a run: one frozen model, from flags, environment, a YAML file and presets."""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from guard_plugins.config.compose import run_config_class
    from guard_plugins.config.data import DataConfig
    from guard_plugins.config.schema import (
        EvaluationConfig,
        GuardConfig,
        RunConfig,
        TeacherConfig,
    )
    from guard_plugins.config.student import StudentConfig

__all__ = [
    "DataConfig",
    "EvaluationConfig",
    "GuardConfig",
    "RunConfig",
    "StudentConfig",
    "TeacherConfig",
    "run_config_class",
]

_SCHEMA: Final = ("EvaluationConfig", "GuardConfig", "RunConfig", "TeacherConfig")
# On first use, so that help and listings do not wait for what they do not need.
_HOMES: Final = {
    "DataConfig": "guard_plugins.config.data",
    "StudentConfig": "guard_plugins.config.student",
    "run_config_class": "guard_plugins.config.compose",
    **dict.fromkeys(_SCHEMA, "guard_plugins.config.schema"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
