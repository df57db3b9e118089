"""What sections of settings have in common, and what is said of weights from outside."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Base of all sections: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ForeignWeights(Section):
    """What a file of weights from another code base does not say itself."""

    mean: tuple[float, ...] | None = Field(
        None, description="per-channel mean that weights from another code base were trained with, for pixels in "
        "[0, 1], as 0.49,0.48,0.45 (default: the file's, else the data set's)",
    )  # fmt: skip
    std: tuple[float, ...] | None = Field(None, description="per-channel standard deviation, likewise")
    classes: Path | None = Field(
        None, description="file with a class name on each line, in the order of the weights' outputs (default: the "
        "data set's order)",
    )  # fmt: skip
