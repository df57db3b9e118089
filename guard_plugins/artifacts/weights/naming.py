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


def _last_layer(name: str) -> str:
    """Rename the last layer of a ResNet, which may stand in an nn.Sequential, as behind a dropout."""
    return re.sub(r"(^|\.)(fc|linear|last_linear|classifier|head)(\.\d+)?\.(weight|bias)$", r"\1fc.\4", name)


def _pytorch_cifar(name: str) -> str:
    """Rename the shortcut and the last layer of a ResNet."""
    return _last_layer(re.sub(r"\.shortcut\.(\d+)\.", r".downsample.\1.", name))


def _transformers(name: str) -> str:
    """Rename the parts of a ResNetForImageClassification: stages, layers, and in each a convolution and its norm."""
    name = re.sub(r"(^|\.)embedder\.embedder\.(convolution|normalization)\.", _convolution_1, name)
    name = re.sub(r"(^|\.)encoder\.stages\.(\d+)\.layers\.", lambda f: f"{f[1]}layer{int(f[2]) + 1}.", name)
    name = re.sub(r"\.shortcut\.(convolution|normalization)\.", _shortcut, name)
    name = re.sub(r"\.layer\.(\d+)\.(convolution|normalization)\.", _layer, name)
    return re.sub(r"^classifier\.1\.", "resnet.fc.", name)


def _convolution_1(found: re.Match[str]) -> str:
    return f"{found[1]}{'conv1' if found[2] == 'convolution' else 'bn1'}."


def _shortcut(found: re.Match[str]) -> str:
    return f".downsample.{0 if found[1] == 'convolution' else 1}."


def _layer(found: re.Match[str]) -> str:
    return f".{'conv' if found[2] == 'convolution' else 'bn'}{int(found[1]) + 1}."


SCHEMES: Final[dict[str, Rename]] = {
    "": _same,
    "the ConvNet of dataset condensation": _dataset_condensation,
    "a ResNet with another last layer": _last_layer,
    "pytorch-cifar's ResNets": _pytorch_cifar,
    "transformers' ResNets": _transformers,
}
"""Naming schemes, by whose they are; each turns a name into this project's."""

PARALLEL: Final = ("module", "_orig_mod")
"""Parts of a name that DataParallel and torch.compile add."""
HOLDERS: Final = (*PARALLEL, "model", "net", "network", "0", "1")
"""Those, and the attributes under which modules commonly hold the network."""

_BEFORE: Final = r"_?(?:(?:image|pixel|img|input|data|norm|new)_?)?"
MEANS: Final = re.compile(_BEFORE + "(?:means?|mu)")
DEVIATIONS: Final = re.compile(_BEFORE + "(?:stds?|sigmas?|sds?)")
"""Last parts of the names of a model's own normalisation."""
BOOKKEEPING: Final = ("n_averaged", "num_batches_tracked")
"""Last parts of the names of counters that do not change what a network in eval mode says."""


def last_part(name: str) -> str:
    """Return what follows the last dot of a name."""
    return name.rpartition(".")[2]
