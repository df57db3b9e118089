"""One step of the matching: the gradient of the distance between the features of images and of real ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from guard_features.config import FeaturesOptions
from guard_features.distance import anchor_distance, characteristic_distance, mean_distance
from guard_features.frequencies import FrequencyNetwork, draw_frequencies
from guard_plugins import DistilledSet, Normalised, Task
from guard_plugins.data.classwise import Classwise, resident
from guard_plugins.data.dsa import siamese_augment
from guard_plugins.networks.embedding import Embedding


class Matching:
    """Compares images with real ones, class by class, in the features of one network a step.

    Args:
        task: Data, seeds and device.
        options: What is compared.
        networks: The networks, which take turns.
        space: A network with the normalisation of all.
        anchors: The real images that the training images start from, in pixels, class by class.
        first: The set they start as, which says how training images are read from stored ones.
        learned: The network that makes the frequencies; none leaves them random.
    """

    def __init__(
        self,
        task: Task,
        options: FeaturesOptions,
        networks: Sequence[Embedding],
        space: Normalised,
        anchors: Tensor,
        first: DistilledSet,
        learned: FrequencyNetwork | None = None,
    ) -> None:
        self._task, self._options, self._networks, self._space = task, options, networks, space
        self._anchors: tuple[Tensor, ...] = anchors.split(len(anchors) // task.classes)
        self._first, self._rows = first, torch.arange(task.ipc * first.per_image)
        self._learned = learned
        self._real = Classwise(resident(task.data.train, task.data.image_shape, task.device), task.classes)

    def differentiate(self, images: Tensor, step: int) -> Tensor:
        """Leave the gradient of the distance in ``images.grad``, and return the distance, summed over classes.

        Learned frequencies are held fixed there. The weights of their network get the gradient of the same sum.

        Args:
            images: The stored images in normalised space, class by class, shape (N, C, H, W).
            step: Number of the step.
        """
        network = self._networks[step % len(self._networks)]
        weights = [] if self._learned is None else list(self._learned.parameters())
        for weight in weights:
            weight.grad = None
        gradients, distances = [], []
        for label, part in enumerate(images.detach().split(self._task.ipc)):
            # Class by class, so that one graph at a time is in memory.
            x = part.clone().requires_grad_()
            distance = self._distance(network, x, label, step)
            distance.backward(inputs=[x, *weights])  # those of the weights add up
            gradients.append(x.grad)
            distances.append(distance.detach())
        images.grad = torch.cat(gradients)
        return torch.stack(distances).sum()

    def decode(self, stored: Tensor) -> Tensor:
        """Return the training images of one class's stored ones, as students see them."""
        return self._first.read(self._rows, images=stored)  # all classes are read alike

    def _distance(self, network: Embedding, stored: Tensor, label: int, step: int) -> Tensor:
        options, seeds = self._options, self._task.seeds
        seed = seeds.derive("features", "augment", step, label)
        synthetic = network(siamese_augment(self.decode(stored), options.strategy, seed=seed))
        with torch.no_grad():
            real = self._space.normalise(self._genuine(label, step))
            wanted = network(siamese_augment(real, options.strategy, seed=seed))
        if options.distance == "anchor":
            return anchor_distance(synthetic, wanted)
        if options.distance == "mean":
            return mean_distance(synthetic, wanted)
        generator = seeds.generator("features", "frequencies", step, label)
        frequencies = draw_frequencies(
            wanted, options.frequencies, options.frequency_scale, generator, network=self._learned
        )
        return characteristic_distance(synthetic, wanted, frequencies, amplitude=options.amplitude)

    def _genuine(self, label: int, step: int) -> Tensor:
        if self._options.distance == "anchor":
            anchors: Tensor = self._anchors[label]
            return anchors
        count = min(self._options.real_batch, len(self._real.members[label]))
        generator = self._task.seeds.generator("features", "real", step, label)
        return self._real.draw(label, count, generator).to(self._task.device)
