"""What the pictures of a report are drawn from: numbers a run stores, so that a report never loads a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from guard_plugins.artifacts.tensors import write_tensors
from guard_plugins.errors import ArtifactError

FIGURES: Final = "figures.safetensors"
"""Name of the file in a run's folder."""

Array = NDArray[Any]


@dataclass(frozen=True)
class About:
    """What the arrays mean.

    Attributes:
        classes: Names of the classes.
        radii: L-infinity radii of the adversarial examples, in pixel units.
        attack: Label of the attack that made them.
        h: L2 length of the curvature step, in pixel units; slices reach twice as far in each direction.
    """

    classes: Sequence[str]
    radii: Sequence[float]
    attack: str
    h: float


@dataclass(frozen=True, eq=False)
class Figures:
    """The arrays by name, each in the folder of the kind of model it belongs to.

    ``clean`` (K, C, H, W) and ``labels`` (K,) are the example images; for a kind such as ``student`` there are
    ``student/adversarial`` (R, K, C, H, W), ``student/before`` (K,) and ``student/after`` (R, K), the predictions;
    ``student/slices`` (M, G, G), losses of the first M examples along the gradient (rows) and a random direction
    (columns); ``student/norm`` and ``student/curvature`` (N,), of as many test images.

    Attributes:
        about: What the arrays mean.
        arrays: The arrays.
    """

    about: About
    arrays: Mapping[str, Array]

    def of(self, kind: str, name: str) -> Array | None:
        """Return the array of a kind of model, or None where the run has none."""
        return self.arrays.get(f"{kind}/{name}")


def save_figures(path: Path, figures: Figures) -> None:
    """Write the figures' numbers.

    Raises:
        ArtifactError: If the file cannot be written.
    """
    tensors = {name: np.ascontiguousarray(array) for name, array in figures.arrays.items()}
    write_tensors(path, tensors, {"about": json.dumps(asdict(figures.about))})


def load_figures(path: Path) -> Figures:
    """Return what :func:`save_figures` wrote.

    Raises:
        ArtifactError: If the file is damaged.
    """
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return Figures(About(**json.loads((file.metadata() or {})["about"])), arrays)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"{path} is damaged or no figures of a run", seen=f"{type(error).__name__}: {error}",
            do="Delete it: the report then leaves its pictures out.",
        ) from error  # fmt: skip
