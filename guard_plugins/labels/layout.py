"""The layout of stored soft labels, and how many bytes they take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from guard_plugins.artifacts.formatting import byte_count
from guard_plugins.training.augmentation import augmenter
from guard_plugins.training.recipes import Recipe

Count = Annotated[int, Field(gt=0, le=2**31 - 1)]
DType = Literal["float16", "float32"]
Side = Annotated[int, Field(gt=0, le=2**15 - 1)]

SHARD_BYTES: Final = 64 * 2**20
"""Size of a shard, which holds at most ten epochs and at least one."""

HEADER: Final = 2048
"""Upper limit of the bytes of a shard's header."""


class Layout(BaseModel):
    """The shape of stored soft labels.

    Attributes:
        images: Images in the distilled set.
        classes: Logits per image.
        size: (H, W) of the images.
        epochs: Passes over the images.
        per_epoch: Batches per epoch.
        batch: Images per batch.
        shard: Epochs per file.
        window: Numbers that describe the crop of an image: 2 for an offset, 4 for a box, 0 for no crop.
        flips: Whether images may be mirrored.
        mix: How images are mixed.
        dtype: Type of the logits.
        numbers: Further numbers of an augmentation of a plugin, for each image.
        augment: Name of an augmentation of a plugin; empty for those of the project.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    images: Count
    classes: Count
    size: Annotated[tuple[Side, Side], Field(strict=False)]
    epochs: Count
    per_epoch: Count
    batch: Count
    shard: Count
    window: Literal[0, 2, 4]
    flips: bool
    mix: Literal["none", "mixup", "cutmix"]
    dtype: DType
    numbers: Annotated[int, Field(ge=0, le=4096)] = 0
    augment: Annotated[str, Field(max_length=200)] = ""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out what only augmentations of plugins have, so that other labels are written as they always were."""
        found: dict[str, object] = handler(self)
        return {key: value for key, value in found.items() if key not in ("numbers", "augment") or value}

    @classmethod
    def of(
        cls, recipe: Recipe, *, images: int, classes: int, size: tuple[int, int], dtype: DType = "float16",
        augmentations: Mapping[str, type[Any]] = MappingProxyType({}),
    ) -> Layout:  # fmt: skip
        """Return the layout for the labels of a recipe.

        Args:
            recipe: How students are trained.
            images: Images in the distilled set.
            classes: Number of classes.
            size: (H, W) of the images.
            dtype: Type of the logits.
            augmentations: Those of plugins by name.
        """
        augment = augmenter(recipe.augment, augmentations)
        batch = min(recipe.batch_size, images)
        layout = cls(
            images=images, classes=classes, size=size, epochs=recipe.epochs, per_epoch=images // batch, batch=batch,
            shard=1, window=augment.kind.window, flips=augment.kind.flips, dtype=dtype, numbers=augment.kind.numbers,
            augment="" if augment.own else augment.kind.name,
            mix="cutmix" if recipe.cutmix else "mixup" if recipe.mixup else "none",
        )  # fmt: skip
        shard = min(max(SHARD_BYTES // layout.bytes_of(1), 1), 10, recipe.epochs)
        return layout.model_copy(update={"shard": shard})

    def tensors(self, epochs: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Return type and shape of every tensor of ``epochs`` epochs; S is the number of their batches.

        ``logits`` (S, B, K) of the teacher on the view; ``rows`` (S, B), the image; ``window`` (S, B, 2 or 4) and
        ``flipped`` (S, B) and ``numbers`` (S, B, n) as in :class:`~guard_plugins.data.augment.View`; ``partner``
        (S, B), its position in the batch; ``share`` (S,) and ``box`` (S, 4) as in
        :class:`~guard_plugins.data.mixing.Mix`.
        """
        steps, each = epochs * self.per_epoch, (epochs * self.per_epoch, self.batch)
        found: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
            "logits": (getattr(torch, self.dtype), (*each, self.classes)),
            "rows": (torch.int32, each),
        }
        if self.window:
            found["window"] = (torch.int16, (*each, self.window))
        if self.flips:
            found["flipped"] = (torch.bool, each)
        if self.numbers:
            found["numbers"] = (torch.float32, (*each, self.numbers))
        if self.mix != "none":
            found |= {"partner": (torch.int32, each), "share": (torch.float64, (steps,))}
        if self.mix == "cutmix":
            found["box"] = (torch.int16, (steps, 4))
        return found

    def shards(self) -> dict[str, range]:
        """Return the epochs of every file by its name."""
        starts = range(0, self.epochs, self.shard)
        return {name_of(start): range(start, min(start + self.shard, self.epochs)) for start in starts}

    def bytes_of(self, epochs: int) -> int:
        """Return the bytes of the tensors of ``epochs`` epochs."""
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.tensors(epochs).values())

    def cost(self) -> str:
        """Return how the size on disk adds up, in a sentence."""
        logits = self.classes * getattr(torch, self.dtype).itemsize
        per_step = {"none": 0, "mixup": 8, "cutmix": 16}[self.mix]
        total, images = self.bytes_of(self.epochs), self.per_epoch * self.batch
        view = (self.bytes_of(1) - self.per_epoch * per_step) // images - logits
        mixed = f" + {self.epochs * self.per_epoch} batches x {per_step}" if per_step else ""
        return (
            f"{self.epochs} epochs x {images} images x ({logits} bytes of {self.dtype} logits + {view} of view){mixed} "
            f"= {total:,} bytes ({byte_count(total)})"
        )


def name_of(epoch: int) -> str:
    """Return the name of the shard that begins with an epoch."""
    return f"epochs-{epoch:06d}.safetensors"
