"""The curvature hook: a regulariser for any PyTorch training loop."""

from guard_plugins.curvature.counters import HookSummary, StepRecord
from guard_plugins.curvature.hook import CurvatureHook

__all__ = ["CurvatureHook", "HookSummary", "StepRecord"]
