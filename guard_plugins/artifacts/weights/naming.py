"""Names that other code bases give to the weights of the same networks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

Rename = Callable[[str], str]


def _same(name: str) -> str:
    return name


def _dataset_condensation(name: str) -> str:
    """Split the flat index of a ConvNet's layers: block i has its convolution at 4i and its norm at 4i + 1."""
    return re.sub(
        r"(^|\.)features\.(\d+)\.(?=[a-z])",
        lambda found: f"{found[1]}features.{int(found[2]) // 4}.{int(found[2]) % 4}.",
        name,
    )


def _pytorch_cifar(name: str) -> str:
    """Rename the shortcut and the last layer of a ResNet."""
    name = re.sub(r"\.shortcut\.(\d+)\.", r".downsample.\1.", name)
    return re.sub(r"(^|\.)linear\.(weight|bias)$", r"\1fc.\2", name)


SCHEMES: Final[dict[str, Rename]] = {
    "": _same,
    "the ConvNet of dataset condensation": _dataset_condensation,
    "pytorch-cifar's ResNets": _pytorch_cifar,
}
"""Naming schemes, by whose they are; each turns a name into this project's."""

PARALLEL: Final = ("module", "_orig_mod")
"""Parts of a name that DataParallel and torch.compile add."""
HOLDERS: Final = (*PARALLEL, "model", "net", "network", "0", "1")
"""Those, and the attributes under which modules commonly hold the network."""

NORMALISATION: Final = (("mean", "std"), ("mu", "sigma"), ("new_mean", "new_std"), ("pixel_mean", "pixel_std"))
"""Last parts of the names of a model's own normalisation."""
BOOKKEEPING: Final = ("n_averaged", "num_batches_tracked")
"""Last parts of the names of counters that do not change what a network in eval mode says."""


def last_part(name: str) -> str:
    """Return what follows the last dot of a name."""
    return name.rpartition(".")[2]
