"""A data set that is drawn, not downloaded: discs, squares and triangles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guard_plugins.data.base import Data, DataRequest, DataSet

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CLASSES: Final = ("disc", "square", "triangle")
SIDE: Final = 16
TRAIN: Final = 100
TEST: Final = 20


class Shapes(DataSet):
    """Bright shapes at random positions and of random sizes on dark noise, one channel; always the same images."""

    name = "shapes"
    summary = "discs, squares and triangles of 16x16 pixels, drawn on the spot"

    def load(self, request: DataRequest) -> Data:
        """Draw the images; ``root`` and ``download`` are not used."""
        import torch

        from guard_plugins.data.splits import TensorSplit

        side = request.image_size or SIDE
        counts = (request.train_per_class or TRAIN, request.test_per_class or TEST)
        splits = []
        for seed, count in enumerate(counts):
            generator = torch.Generator().manual_seed(seed)
            images = torch.stack([draw(label, side, generator) for label in range(3) for _ in range(count)])
            splits.append(TensorSplit(images, torch.arange(3).repeat_interleave(count)))
        return Data(
            name=self.name, train=splits[0], test=splits[1], classes=CLASSES, mean=(0.25,), std=(0.3,),
            image_shape=(1, side, side),
        )  # fmt: skip


def draw(label: int, side: int, generator: torch.Generator) -> Tensor:
    """Return one image in [0, 1], shape (1, side, side).

    Args:
        label: Position in :data:`CLASSES`.
        side: Pixels per side.
        generator: Source of place, size and noise.
    """
    import torch

    u = torch.rand(3, generator=generator)
    radius = (0.2 + 0.15 * u[0]) * side
    x, y = (torch.arange(side) + 0.5 - radius - u[i] * (side - 2 * radius) for i in (1, 2))
    y = y[:, None]
    inside = (x**2 + y**2 < radius**2, torch.maximum(x.abs(), y.abs()) < 0.8 * radius,
              (y.abs() < radius) & (x.abs() < (radius + y) / 2))[label]  # fmt: skip
    return torch.where(inside, 0.9, 0.2 * torch.rand(side, side, generator=generator))[None]
