"""The configuration of a run: one frozen model, from flags, environment, a YAML file and presets."""

from guard_plugins.config.compose import configure, run_config_class
from guard_plugins.config.core import (
    DataConfig,
    EvaluationConfig,
    GuardConfig,
    RunConfig,
    StudentConfig,
    TeacherConfig,
)

__all__ = [
    "DataConfig",
    "EvaluationConfig",
    "GuardConfig",
    "RunConfig",
    "StudentConfig",
    "TeacherConfig",
    "configure",
    "run_config_class",
]
