"""The curvature hook: a regulariser for any PyTorch training loop."""

from guard_plugins.curvature.hook import CurvatureHook
from guard_plugins.curvature.objective.counters import HookSummary, StepRecord

__all__ = ["CurvatureHook", "HookSummary", "StepRecord"]
