"""The options of SRe2L's recovery, each with its published default and source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from guard_plugins.method import MethodConfig

Share = Annotated[float, Field(ge=0, lt=1)]
Area = Annotated[float, Field(gt=0, le=1)]


class RecoverConfig(BaseModel):
    """Recovery: images are optimised in normalised space until their BatchNorm statistics are those of the training.

    Defaults are those of the ImageNet-1k command of the published code.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    iterations: PositiveInt = Field(4000, description="Adam steps per batch of images (ImageNet-1k: 4000)")
    lr: PositiveFloat = Field(0.25, description="Adam's initial rate, cosine to 0 (ImageNet-1k: 0.25)")
    beta1: Share = Field(0.5, description="Adam's first moment decay (published code)")
    beta2: Share = Field(0.9, description="Adam's second moment decay (published code)")
    r_bn: NonNegativeFloat = Field(0.01, description="weight of the BatchNorm statistics loss (ImageNet-1k: 0.01)")
    first_bn: NonNegativeFloat = Field(10.0, description="factor on the first BatchNorm layer's loss (published code)")
    jitter: NonNegativeInt = Field(32, description="largest shift in pixels, both ways (ImageNet-1k: 32, 32 px: 4)")
    flip: bool = Field(True, description="flip the whole batch in half of the steps (published for >= 64 px)")
    crop_scale: Area = Field(
        0.08, description="smallest area share of RandomResizedCrop; 1 turns it off (ImageNet-1k: 0.08)"
    )
    batch: PositiveInt = Field(100, description="images optimised together (published code: 100)")
    mix_copies: bool = Field(
        True, description="fill batches with several images per class, so that batches are large even with few classes"
    )
    start: Literal["noise", "real"] = Field(
        "noise", description="first iterate: N(0, 1) noise (published), or a random crop of a real image of the class"
    )
    patch_scale: Area = Field(0.5, description="smallest area share of the crop a real start is taken from")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="arithmetic of the teacher's passes; the statistics are float32 in any case"
    )


class SRe2LConfig(MethodConfig):
    """The options of SRe2L."""

    recover: RecoverConfig = Field(RecoverConfig(), description="recovery of the images from the teacher")
