"""The settings of a hook, checked once."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

Penalty = Literal["loss", "gradient"]
NormStats = Literal["batch", "running"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of one hook; see ``CurvatureHook`` for their meaning.

    Raises:
        ConfigError: If a value is out of range or two settings contradict each other.
    """

    h: float | None = None
    h_rms: float | None = None
    weight: float = 1.0
    penalty: Penalty = "loss"
    every: int = 1
    ramp: int = 0
    model: nn.Module | None = None
    input: str | int | None = None
    norm_stats: NormStats = "batch"

    def __post_init__(self) -> None:
        if (self.h is None) == (self.h_rms is None):
            raise ConfigError(
                "the hook needs a step length, in exactly one unit",
                seen=f"h={self.h}, h_rms={self.h_rms}",
                do="pass h (L2 length of the whole step) or h_rms (the same per element), not both",
            )
        for name in ("h", "h_rms"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value > 0):
                seen = f"{name}={value!r}, a {type(value).__name__}"
                raise ConfigError(f"{name} must be a positive number", seen=seen, do=f"write {name}=0.5, say")
        if not (_is_number(self.weight) and self.weight >= 0):
            raise ConfigError("weight must be a number ≥ 0", seen=f"weight={self.weight!r}", do="weight=0 switches off")
        for name, least in (("every", 1), ("ramp", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be an integer ≥ {least}", seen=f"{name}={value!r}")
        for name, allowed in (("penalty", ("loss", "gradient")), ("norm_stats", ("batch", "running"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} must be one of {allowed}", seen=f"{name}={getattr(self, name)!r}")

    def step_length(self, elements: int, step: int) -> float:
        """Return h, the L2 length of z, for inputs of ``elements`` numbers at optimiser step ``step`` (from 0)."""
        full = self.h if self.h is not None else float(self.h_rms or 0.0) * math.sqrt(elements)
        return full * min(1.0, (step + 1) / self.ramp) if self.ramp else full

    def due(self, step: int) -> bool:
        """Return whether optimiser step ``step`` (from 0) is a regularised one."""
        return self.weight > 0 and step % self.every == 0


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
