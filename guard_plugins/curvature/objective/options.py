"""The settings of a hook, checked once."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from torch import nn

from guard_plugins.errors import ConfigError

Penalty = Literal["loss", "gradient"]
NormStats = Literal["batch", "running"]

_CHOICES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "penalty": {"loss": "is the default", "gradient": "is CURE's"},
        "norm_stats": {"batch": "is the default", "running": "is for the term in eval mode"},
    }
)


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
        for name, meanings in _CHOICES.items():
            if getattr(self, name) not in tuple(meanings):  # what is asked for may be unhashable
                choices = "; ".join(f"{name}={value!r} {meaning}" for value, meaning in meanings.items())
                raise ConfigError(
                    f"{name} must be one of {tuple(meanings)}", seen=f"{name}={getattr(self, name)!r}", do=choices
                )
        if self.model is not None and not callable(getattr(self.model, "named_parameters", None)):
            raise ConfigError("model must be a torch module", seen=f"model={self.model!r}", do="pass the model itself")
        if isinstance(self.input, bool) or not isinstance(self.input, (str, int, type(None))):
            raise ConfigError(
                "input must be the name, the place or the key of an argument", seen=f"input={self.input!r}",
                do='write input="pixels", or input=1 for the second argument; x itself is told by hook.watch(x)',
            )  # fmt: skip

    def step_length(self, elements: int, step: int) -> float:
        """Return h, the L2 length of z, for inputs of ``elements`` numbers at optimiser step ``step`` (from 0)."""
        full = self.h if self.h is not None else float(self.h_rms or 0.0) * math.sqrt(elements)
        return full * min(1.0, (step + 1) / self.ramp) if self.ramp else full

    def due(self, step: int) -> bool:
        """Return whether optimiser step ``step`` (from 0) is a regularised one."""
        return self.weight > 0 and step % self.every == 0


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
