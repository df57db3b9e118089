"""What sections of settings have in common, and what is said of weights from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat

Activation = Literal["relu", "silu", "gelu"]


class Section(BaseModel):
    """Base of all sections: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _in_unit_range(value: float) -> float:
    """Return a length in pixels of [0, 1].

    Raises:
        ValueError: If it is above 1, as one that is meant over 255.
    """
    if value > 1:
        raise ValueError(f"the unit is pixels in [0, 1], where {value:g}/255 is {value / 255:.4g}")
    return value


PixelLength = Annotated[PositiveFloat, AfterValidator(_in_unit_range)]
"""A length per pixel, whose range is 0 to 1."""


class ForeignWeights(Section):
    """What a file of weights from another code base does not say itself."""

    mean: tuple[float, ...] | None = Field(
        None, description="per-channel mean that weights from another code base were trained with, for pixels in "
        "[0, 1], as 0.49,0.48,0.45 (default: the file's, else the data set's)",
    )  # fmt: skip
    std: tuple[float, ...] | None = Field(None, description="per-channel standard deviation, likewise")
    classes: Path | None = Field(
        None, description="file with a class name on each line or a JSON list, in the outputs' order (default: the "
        "data set's order)",
    )  # fmt: skip
