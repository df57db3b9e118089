"""The configuration of a run: one frozen model, from flags, environment, a YAML file and presets."""

from guard_plugins.config.compose import run_config_class
from guard_plugins.config.data import DataConfig
from guard_plugins.config.schema import (
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
    "run_config_class",
]
