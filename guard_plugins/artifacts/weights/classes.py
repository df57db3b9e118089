"""Networks whose outputs are in another order than the data set's classes."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from guard_plugins.errors import ConfigError
from guard_plugins.files import regular

if TYPE_CHECKING:
    from guard_plugins.networks.normalised import Normalised


def read_order(path: Path, classes: Sequence[str]) -> list[int]:
    """Return, for each class of the data set, the place of its line in a file: the output that stands for it.

    Args:
        path: A text file with a class name on each line, or a JSON list of the names.
        classes: Names of the data set's classes, in the order of the labels.

    Raises:
        ConfigError: If the file cannot be read, or does not hold each class once.
    """
    try:
        names = _names(regular(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"The file of classes {path} cannot be read (--teacher.classes)", seen=str(error)) from error
    known = [_composed(name) for name in classes]
    if sorted(names) != sorted(known):
        odd = sorted({*names} ^ {*known}) or [name for name in known if names.count(name) > 1]
        raise ConfigError(
            f"The file {path} does not hold each class of the data set once (--teacher.classes)",
            seen=f"{len(names)} names for {len(classes)} classes; in one of the two only, or twice: {_few(odd)}",
            do=f"Write one name on each line, in the order of the outputs; the names are {_few(classes)}.",
        )
    return [names.index(name) for name in known]


def _names(text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return [_composed(line.strip()) for line in text.splitlines() if line.strip()]
    found = json.loads(text)
    if any(not isinstance(name, str | int) for name in found):
        raise ValueError("its list holds other things than names")
    return [_composed(str(name)) for name in found]


def _composed(name: str) -> str:
    """Return a name in the form in which names of folders are compared, too."""
    return unicodedata.normalize("NFC", name)


def reorder(model: Normalised, order: Sequence[int], image_shape: tuple[int, int, int]) -> None:
    """Put the outputs of a network into the order of the data set's classes, in its last layer.

    Args:
        model: Changed in place.
        order: For each class, the output that stands for it.
        image_shape: (C, H, W) of the images.

    Raises:
        ConfigError: If the network has no last linear layer whose rows are its outputs.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == len(order)]
    device, training = model.mean.device, model.training
    images = torch.rand(4, *image_shape, generator=torch.Generator().manual_seed(0)).to(device)
    rows = torch.tensor(order, device=device)
    model.eval()
    with torch.no_grad():
        before = model(images)[:, rows]
        if layers:
            last = layers[-1]
            for parameter in (last.weight, last.bias):
                if parameter is not None:
                    parameter.copy_(parameter[rows])
        done = bool(layers) and torch.allclose(model(images), before, rtol=1e-4, atol=1e-5)
    model.train(training)
    if not done:
        raise ConfigError(
            "The order of this network's outputs cannot be changed (--teacher.classes)",
            seen=f"its last layer is not a linear one of {len(order)} outputs",
            do="Train or save it with the data set's order of classes.",
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
