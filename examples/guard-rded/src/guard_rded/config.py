"""The options of RDED, each with its published default."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from guard_plugins import MethodConfig


class RDEDOptions(BaseModel):
    """How patches are cut and chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    factor: PositiveInt = Field(1, description="patches per side of an image (published: 1 at 32 pixels, 2 above)")
    pool: PositiveInt = Field(300, description="real images of a class to cut patches from, at most (published: 300)")
    crops: PositiveInt = Field(5, description="patches cut from every real image (published: 5)")
    crop_scale: float = Field(
        0.5, gt=0, le=1, description="smallest area share of a patch (published: 0.08 to 0.5, by data set)"
    )
    batch: PositiveInt = Field(500, description="patches the teacher looks at together")


class RDEDConfig(MethodConfig):
    """The options of RDED."""

    rded: RDEDOptions = Field(RDEDOptions(), description="real patches chosen by the teacher")
