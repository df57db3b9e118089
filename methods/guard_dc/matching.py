"""The loops of DC: fresh networks, image steps that match gradients, and plain training on the distilled set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from guard_dc.chunked import in_parts
from guard_dc.config import MatchConfig
from guard_dc.distance import gradient_distance, matched_parameters
from guard_dc.real_images import RealImages
from guard_dc.schedule import Loops
from guard_plugins.data.dsa import siamese_augment
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.task import Task

Gradients = tuple[Tensor, ...]
Batch = tuple[Tensor, Tensor]
MatchingTarget = Callable[[Normalised, Iterable[Batch]], list[Gradients]]
"""From a network and a batch of real images (pixels) and labels per class to the gradients to match."""

FREEZE_IMAGES = 16
"""Real images per class that BatchNorm statistics are taken on (published code)."""


@dataclass
class Matching:
    """The outer iterations of DC, one per call of :meth:`iterate` (arXiv 2006.05929, algorithm 1).

    Attributes:
        task: Gives classes, seeds and device.
        settings: The constants.
        loops: Image steps per network and epochs between them.
        images: The distilled images in normalised space, class by class, (classes * ipc, C, H, W); changed in place.
        optimizer: SGD on the images.
        real: Source of real images.
        frame: Any network of the task; its normalisation is used.
        target: Returns the gradients to match.
    """

    task: Task
    settings: MatchConfig
    loops: Loops
    images: Tensor
    optimizer: torch.optim.Optimizer
    real: RealImages
    frame: Normalised
    target: MatchingTarget

    def __post_init__(self) -> None:
        self._labels = torch.arange(self.task.classes, device=self.task.device).repeat_interleave(self.task.ipc)
        bounds = (torch.full_like(self.images[:1], value) for value in (0.0, 1.0))
        self._low, self._high = (self.frame.normalise(bound) for bound in bounds)

    def iterate(self, number: int) -> Tensor:
        """Do outer iteration ``number`` with a fresh network; return the mean distance per class."""
        model = self.task.network(self.settings.network, stage=f"match/{number}").train()
        distances = []
        for outer in range(self.loops.outer):
            self._freeze_batchnorm(model, number, outer)
            distances.append(self._image_step(model, number, outer))
            if outer < self.loops.outer - 1:
                self._train_network(model, number, outer)
        return torch.stack(distances).mean() / self.task.classes

    def _image_step(self, model: Normalised, number: int, outer: int) -> Tensor:
        weights = matched_parameters(model.network, self.settings.distance)
        target = self.target(model, self._real_batches(model, number, outer))
        parts = self.images.detach().split(self.task.ipc)
        gradients, distances = [], []
        for label, (part, wanted) in enumerate(zip(parts, target, strict=True)):
            # Class by class: a class's images occur in its own distance only, and one graph at a time is in memory.
            x = part.clone().requires_grad_()
            logits = model.network(self._augmented(x, number, outer, label))
            loss = F.cross_entropy(logits, self._labels.new_full((len(x),), label))
            gradient = torch.autograd.grad(loss, weights, create_graph=True)
            distance = gradient_distance(gradient, wanted, self.settings.distance)
            gradients.append(torch.autograd.grad(distance, x)[0])
            distances.append(distance.detach())
        self.images.grad = torch.cat(gradients)
        self.optimizer.step()
        with torch.no_grad():
            # Clipped at every step, so that the stored images are those that were optimised (published: never clipped).
            self.images.clamp_(self._low, self._high)
        return torch.stack(distances).sum()

    def _real_batches(self, model: Normalised, number: int, outer: int) -> Iterable[Batch]:
        for label in range(self.task.classes):
            pixels = self.real.batch(label, self.settings.real_batch, number, outer)
            if self.settings.augment == "dsa":
                pixels = model.pixels(self._augmented(model.normalise(pixels), number, outer, label))
            yield pixels, self._labels.new_full((len(pixels),), label)

    def _augmented(self, normalised: Tensor, number: int, outer: int, label: int) -> Tensor:
        if self.settings.augment == "none":
            return normalised
        seed = self.task.seeds.derive("match", "dsa", number, outer, label)
        return siamese_augment(normalised, self.settings.strategy, seed=seed)

    def _freeze_batchnorm(self, model: Normalised, number: int, outer: int) -> None:
        """Set the statistics of BatchNorm layers from real images of all classes, and put the layers in eval mode."""
        layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
        if not layers:
            return
        model.train()
        parts = [self.real.batch(c, FREEZE_IMAGES, number, outer, "freeze") for c in range(self.task.classes)]
        with torch.no_grad():
            model(torch.cat(parts))
        for layer in layers:
            layer.eval()

    def _train_network(self, model: Normalised, number: int, outer: int) -> None:
        """Train the network on the distilled images for ``loops.inner`` epochs; plain cross-entropy, plain SGD."""
        images, settings = self.images.detach(), self.settings
        sgd = torch.optim.SGD(model.network.parameters(), lr=settings.lr_network)
        for epoch in range(self.loops.inner):
            path = ("match", "inner", number, outer, epoch)
            order = torch.randperm(len(images), generator=self.task.seeds.generator(*path))
            for start, index in enumerate(order.to(images.device).split(settings.batch)):
                x = images[index]
                if settings.augment == "dsa":
                    x = siamese_augment(x, settings.strategy, seed=self.task.seeds.derive(*path, start))
                loss = F.cross_entropy(in_parts(model.network, x), self._labels[index])
                sgd.zero_grad()
                loss.backward()
                sgd.step()
