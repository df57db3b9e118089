"""The options of trajectory matching, each with MTT's published default for CIFAR-10 at 10 images per class."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from guard_plugins import MethodConfig
from guard_plugins.data.dsa import PUBLISHED_STRATEGY

Decay = Annotated[float, Field(ge=0, lt=1)]


class MTTOptions(BaseModel):
    """How images are made that lead a network along the experts' trajectories."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    experts: PositiveInt = Field(100, description="networks trained on real images (published: 100)")
    iterations: PositiveInt = Field(5000, description="steps on the images (published: 5000)")
    expert_epochs: PositiveInt = Field(2, description="epochs of an expert that a step matches (published: 2)")
    syn_steps: PositiveInt = Field(30, description="steps of the student that are to match them (published: 30)")
    batch: PositiveInt | None = Field(None, description="distilled images per step of the student (default: all)")
    earliest_start: NonNegativeInt = Field(0, description="first epoch that a match may begin at (MTT: 0)")
    latest_start: PositiveInt = Field(15, description="a match begins before this epoch (MTT: 15)")
    easy_start: PositiveInt | None = Field(
        None, description="a match begins before this epoch at first, and before --mtt.latest-start in the end (DATM)"
    )
    expansion: PositiveInt = Field(3000, description="steps until the latest start is reached (DATM)")
    lr_images: PositiveFloat = Field(1000.0, description="rate of the normalised images (published: 1000)")
    lr_student: PositiveFloat = Field(0.01, description="the student's rate at first; it is learned (published: 0.01)")
    lr_lr: NonNegativeFloat = Field(1e-5, description="rate at which the student's rate is learned (published: 1e-5)")
    momentum: Decay = Field(0.5, description="SGD's momentum on images and rate (published: 0.5)")
    labels: Literal["hard", "learned"] = Field(
        "hard", description="learned: soft labels that begin as the first expert's logits (DATM)"
    )
    lr_labels: PositiveFloat = Field(2.0, description="rate of learned labels, with momentum 0.9 (DATM: 2)")
    augment: Literal["none", "dsa"] = Field("dsa", description="Siamese augmentation of real and distilled images")
    strategy: str = Field(PUBLISHED_STRATEGY, description="augmentations of dsa to choose from, joined by underscores")
    start: Literal["real", "noise"] = Field("real", description="first iterate (published: real)")


class MTTConfig(MethodConfig):
    """The options of trajectory matching."""

    mtt: MTTOptions = Field(MTTOptions(), description="trajectory matching")
