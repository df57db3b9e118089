"""The options of EDC, each with its published default for CIFAR-10."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from guard_plugins import MethodConfig

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class EDCOptions(BaseModel):
    """How the images are made from the backbones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    backbones: tuple[str, ...] = Field(
        ("convnet3", "mobilenetv2", "wrn-16-2", "shufflenetv2", "convnet1", "convnet2", "convnet3-w32"),
        description="networks beside --teacher.network, each trained as it is (published: these beside resnet18)",
    )
    iterations: PositiveInt = Field(75, description="Adam steps on the images, one backbone each (published: 75)")
    lr: PositiveFloat = Field(0.05, description="Adam's initial rate, cosine to 0, normalised space (published: 0.05)")
    weight: NonNegativeFloat = Field(0.01, description="weight of the statistics' distances (published: 0.01)")
    first: NonNegativeFloat = Field(10.0, description="factor on the first layer's distances (published: 10)")
    alpha: Share = Field(
        0.5, description="share of the statistics of the images' own classes; the rest is of all images' "
        "(published: 0.5)",
    )  # fmt: skip
    momentum: Decay = Field(0.8, description="share that a running mean of the statistics keeps (published: 0.8)")
    flatness: NonNegativeFloat = Field(
        0.01,
        description="weight of the distance from the logits on a running mean of the images (published: 0.01)",
    )
    flatness_decay: Decay = Field(0.99, description="share that the running mean of the images keeps (published: 0.99)")
    flatness_temperature: PositiveFloat = Field(4.0, description="temperature of that distance (published: 4)")
    start: Literal["real", "noise"] = Field("real", description="first iterate (published: random real images)")
    crop_scale: float = Field(
        0.08, gt=0, le=1, description="smallest area share of the crop that a step looks at; 1 turns it off (0.08)"
    )
    flip: bool = Field(True, description="mirror the images in half of the steps (published)")
    batch: PositiveInt = Field(64, description="real images per pass when statistics are collected (published: 64)")


class EDCConfig(MethodConfig):
    """The options of EDC."""

    edc: EDCOptions = Field(EDCOptions(), description="statistics of several backbones, matched class by class")
