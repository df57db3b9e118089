"""The statistics of a network's layers: of all real images, of each class, and of the images that are made.

All numbers of a network are one vector, layer by layer. A layer's part is a few vectors: mean and variance of the
channels of its input, and for convolutions also those of the input's 4x4 patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from guard_plugins import LoopState, Normalised, Task

PATCH: Final = 4
"""Pixels a side of a patch (published code)."""


def layers_of(network: nn.Module) -> list[nn.Module]:
    """Return the layers whose inputs are matched, in ``modules()`` order: convolutions, and BatchNorm."""
    return [
        layer for layer in network.modules()
        if isinstance(layer, nn.Conv2d) or (isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None)
    ]  # fmt: skip


class Inputs:
    """Takes the statistics of some layers' inputs in a forward pass inside the context.

    Args:
        layers: The layers.
        each: Take them image by image, not over the whole batch.
    """

    def __init__(self, layers: Sequence[nn.Module], *, each: bool = False) -> None:
        self._layers, self._each = layers, each
        self._found: dict[nn.Module, list[Tensor]] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Inputs:
        self._handles = [layer.register_forward_pre_hook(self._take) for layer in self._layers]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def vectors(self) -> list[Tensor]:
        """Return means and biased variances layer by layer, each of shape (D,), or (N, D) image by image."""
        return [vector for layer in self._layers for vector in self._found[layer]]

    def _take(self, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        # At once, since a later layer may change its input in place.
        found = self._moments(args[0].flatten(2))
        self._found[layer] = found + (self._moments(patches(args[0])) if isinstance(layer, nn.Conv2d) else [])

    def _moments(self, values: Tensor) -> list[Tensor]:
        values = values if self._each else values.transpose(0, 1).flatten(1)
        variance, mean = torch.var_mean(values, dim=-1, correction=0)
        return [mean, variance]


def patches(x: Tensor) -> Tensor:
    """Return the 4x4 patches of activations (N, C, H, W), shape (N, P, 16 C), row by row.

    Sides are rounded up to a multiple of four by bilinear interpolation.
    """
    count, channels, *sides = x.shape
    rows, columns = (-(-side // PATCH) for side in sides)
    if [rows * PATCH, columns * PATCH] != sides:
        x = F.interpolate(x, size=(rows * PATCH, columns * PATCH), mode="bilinear", align_corners=False)
    parts = x.reshape(count, channels, rows, PATCH, columns, PATCH).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(count, rows * columns, channels * PATCH**2)


@dataclass(frozen=True)
class Statistics:
    """What a network's layers see of real images.

    Attributes:
        layers: The layers.
        sizes: Lengths of the vectors, layer by layer.
        factors: Factor on the distance of every vector.
        overall: All vectors one after the other, of all images, shape (D,): what BatchNorm layers have learned, and
            for convolutions the mean over batches.
        classwise: For every class, the mean over its images of their own statistics, shape (K, D).
    """

    layers: list[nn.Module]
    sizes: list[int]
    factors: list[float]
    overall: Tensor
    classwise: Tensor

    def distance(self, observed: Tensor, kept: Tensor, labels: Tensor, *, alpha: float) -> Tensor:
        """Return the weighted sum of the vectors' L2 distances, a scalar.

        The running mean is what is compared, but the gradient is that of the batch at hand (G-VBSM, section 3.2).

        Args:
            observed: The vectors of the batch, one after the other, shape (D,).
            kept: Their running mean, which holds those of the batch already.
            labels: Classes of the batch.
            alpha: Share of the statistics of these classes.
        """
        compared = (kept + observed - observed.detach()).split(self.sizes)
        overall = self.overall.to(observed).split(self.sizes)
        own = self.classwise.to(observed)[labels].mean(dim=0).split(self.sizes)
        distances = [
            factor * ((1 - alpha) * torch.linalg.vector_norm(a - x) + alpha * torch.linalg.vector_norm(c - x))
            for factor, x, a, c in zip(self.factors, compared, overall, own, strict=True)
        ]
        return torch.stack(distances).sum()


def collect(task: Task, model: Normalised, *, batch: int, first: float, stage: str) -> Statistics:
    """Return the statistics of the training images, each seen once as it is (published: cropped and mirrored).

    Args:
        task: Gives data, device and progress.
        model: The network, in eval mode.
        batch: Images per pass.
        first: Factor on the distances of the first layer.
        stage: Name of the loop.

    Raises:
        StoppedError: If the run was asked to stop.
    """
    layers, split = layers_of(model.network), task.data.train
    with Inputs(layers) as inputs, torch.no_grad():
        model(split.images(torch.arange(1)).to(model.mean))
    sizes = [len(vector) for vector in inputs.vectors()]
    overall = torch.zeros(sum(sizes), dtype=torch.float64)
    classwise = torch.zeros(task.classes, sum(sizes), dtype=torch.float64)
    total = -(-len(split) // batch)
    for step in task.steps(stage, total, state=LoopState(overall=overall, classwise=classwise)):
        rows = torch.arange(step.index * batch, min((step.index + 1) * batch, len(split)))
        with Inputs(layers) as batch_wise, Inputs(layers, each=True) as image_wise, torch.no_grad():
            model(split.images(rows).to(model.mean))
        overall += torch.cat(batch_wise.vectors()).cpu().double() * len(rows) / len(split)
        classwise.index_add_(0, split.labels[rows], torch.cat(image_wise.vectors(), dim=1).cpu().double())
    classwise /= torch.bincount(split.labels, minlength=task.classes).unsqueeze(1)
    leading = _count(layers[0])
    factors = [first] * leading + [1.0] * (len(sizes) - leading)
    overall = _learned(layers, overall.split(sizes))
    return Statistics(layers, sizes, factors, overall.to(task.device), classwise.to(task.device))


def _learned(layers: Sequence[nn.Module], vectors: Sequence[Tensor]) -> Tensor:
    """Return the vectors one after the other, those of BatchNorm layers replaced by what these have learned."""
    left, found = [*vectors], []
    for layer in layers:
        mine, left = left[: _count(layer)], left[_count(layer) :]
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            mine = [layer.running_mean.cpu().double(), layer.running_var.cpu().double()]
        found += mine
    return torch.cat(found)


def _count(layer: nn.Module) -> int:
    """Return of how many vectors the statistics of a layer are."""
    return 4 if isinstance(layer, nn.Conv2d) else 2
