"""The options of the matching in robust features."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from guard_plugins import MethodConfig
from guard_plugins.data.dsa import PUBLISHED_STRATEGY


class FeaturesOptions(BaseModel):
    """What is matched, and how the images are moved."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    distance: Literal["characteristic", "mean", "anchor"] = Field(
        "characteristic",
        description="what is to agree: the characteristic functions of the features (NCFM), their means (DM), or each "
        "image's features with those of the real image it starts from (CIM)",
    )
    steps: PositiveInt = Field(800, description="steps on the images, one network each")
    lr: PositiveFloat = Field(0.05, description="Adam's rate on the normalised images; it falls to 0 along a cosine")
    real_batch: PositiveInt = Field(64, description="real images per class and step")
    frequencies: PositiveInt = Field(256, description="frequencies at which characteristic functions are compared")
    frequency_scale: PositiveFloat = Field(
        2.0, description="largest scale of a frequency, in units of 1 / (deviation of a feature x root of their number)"
    )
    frequencies_from: Literal["random", "learned"] = Field(
        "random",
        description="frequencies are drawn, or made of drawn ones by a small network that learns to raise the distance "
        "which the images lower (NCFM)",
    )
    frequency_lr: PositiveFloat = Field(
        0.001, description="Adam's rate on the network that makes learned frequencies (published: 0.001, of SGD)"
    )
    amplitude: float = Field(
        0.5,
        ge=0,
        le=1,
        description="weight of the difference between the amplitudes of characteristic functions; that between their "
        "phases has the rest (0.5: neither counts more)",
    )
    strategy: str = Field(PUBLISHED_STRATEGY, description="Siamese augmentations to choose from, joined by underscores")
    teachers: PositiveInt = Field(2, description="networks that are trained; the first one labels the images")
    snapshots: tuple[NonNegativeInt, ...] = Field(
        (2, 5), description="epochs whose weights of every further network are used beside the last ones"
    )
    start: Literal["random", "centres"] = Field(
        "random", description="real images to start from: random ones, or those nearest to k-means centres of features"
    )
    formation: PositiveInt = Field(
        1, description="store K x K images, each reduced to 1/K of its side, in one (IDC's multi-formation)"
    )


class FeaturesConfig(MethodConfig):
    """The options of the matching in robust features."""

    features: FeaturesOptions = Field(FeaturesOptions(), description="matching in the features of robust networks")
