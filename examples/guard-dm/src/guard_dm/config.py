"""The options of DM, each with its published default."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from guard_plugins import MethodConfig
from guard_plugins.data.dsa import PUBLISHED_STRATEGY


class DMOptions(BaseModel):
    """How the images are made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    iterations: PositiveInt = Field(20000, description="steps on the images (published: 20000)")
    lr: PositiveFloat = Field(1.0, description="SGD's learning rate on the normalised images (published: 1)")
    momentum: float = Field(0.5, ge=0, lt=1, description="SGD's momentum (published: 0.5)")
    batch_real: PositiveInt = Field(256, description="real images per class and step (published: 256)")
    network: str = Field("convnet3", description="architecture of the random networks (published: ConvNet-3)")
    strategy: str = Field(PUBLISHED_STRATEGY, description="Siamese augmentations to choose from, joined by underscores")
    start: Literal["real", "noise"] = Field("real", description="first iterate (published: real)")


class DMConfig(MethodConfig):
    """The options of DM."""

    dm: DMOptions = Field(DMOptions(), description="distribution matching")
