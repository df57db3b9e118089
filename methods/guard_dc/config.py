"""The options of DC, each with its published default and source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from guard_plugins.data.dsa_names import PUBLISHED_STRATEGY, known_strategy
from guard_plugins.method import MethodConfig


class MatchConfig(BaseModel):
    """Gradient matching: the gradients of the images on a fresh network are moved towards those of real images.

    Defaults are those of the published code (arXiv 2006.05929).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    network: str = Field("convnet3", description="architecture whose gradients are matched (published: ConvNet-3)")
    iterations: PositiveInt = Field(1000, description="fresh networks, one after another (published: 1000)")
    outer: PositiveInt | None = Field(
        None, description="image steps per network (default: by IPC, from the published table)"
    )
    inner: PositiveInt | None = Field(
        None, description="epochs on the distilled set between two image steps (default: by IPC, likewise)"
    )
    lr_images: PositiveFloat = Field(0.1, description="rate of SGD on the images (published: 0.1)")
    momentum: float = Field(0.5, ge=0, lt=1, description="momentum of SGD on the images (published: 0.5)")
    lr_network: PositiveFloat = Field(0.01, description="rate of plain SGD on the network (published: 0.01)")
    real_batch: PositiveInt = Field(256, description="real images per class and image step (published: 256)")
    batch: PositiveInt = Field(256, description="distilled images per network step (published: 256)")
    distance: Literal["layerwise", "mse", "cos"] = Field(
        "layerwise", description="layerwise: cosine per output unit (published); mse, cos: over the whole gradient"
    )
    start: Literal["noise", "real"] = Field(
        "noise", description="first iterate: N(0, 1) noise (DC), or real images of the class (DSA)"
    )
    augment: Literal["none", "dsa"] = Field(
        "none", description="dsa: the same random augmentation of real and distilled images (arXiv 2102.08259)"
    )
    strategy: Annotated[str, AfterValidator(known_strategy)] = Field(
        PUBLISHED_STRATEGY, description="operations dsa chooses from (published for natural images)"
    )


class DCConfig(MethodConfig):
    """The options of DC."""

    match: MatchConfig = Field(MatchConfig(), description="matching the gradients of real images")
