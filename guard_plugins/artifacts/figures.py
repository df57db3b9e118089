"""What the pictures of a report are drawn from: numbers a run stores, so that a report never loads a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, ValidationError
from safetensors import SafetensorError, safe_open

from guard_plugins.artifacts.reading import damaged, first_problem
from guard_plugins.artifacts.tensors import write_tensors
from guard_plugins.files import regular

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
        DamagedError: If the file is damaged, or holds anything else.
    """
    try:
        with safe_open(regular(path), framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            about = _About.model_validate_json((file.metadata() or {})["about"], strict=True)
        wrong = _wrong(about, arrays)
        if wrong:
            raise ValueError(wrong)
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, AttributeError) as error:
        seen = first_problem(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
        raise damaged(path, seen, do="Delete it: the report then leaves its pictures out.") from error
    return Figures(About(about.classes, about.radii, about.attack, about.h), arrays)


class _About(BaseModel):
    """What must be said of the arrays, with exact types."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    classes: tuple[str, ...] = Field(min_length=1)
    radii: tuple[PositiveFloat, ...] = Field(min_length=1)
    attack: str
    h: NonNegativeFloat


def _wrong(about: _About, arrays: Mapping[str, Array]) -> str:
    """Return what is wrong with the arrays, or an empty string."""
    clean = arrays["clean"]
    if clean.ndim != 4 or clean.shape[1] not in (1, 3) or not clean.size or not _within(clean, 0, 1):
        return f"clean is {clean.dtype} of {clean.shape}, not images with pixels in [0, 1]"
    count, radii, last = len(clean), len(about.radii), len(about.classes) - 1
    expected: dict[str, tuple[int, ...]] = {"adversarial": (radii, *clean.shape), "before": (count,)}
    expected["after"] = (radii, count)
    for name, array in arrays.items():
        kind, _, what = name.rpartition("/")
        shape = (count,) if name == "labels" else expected.get(what)
        if name != "clean" and array.dtype.kind not in "fiu":
            return f"{name} is {array.dtype}"
        if shape is not None and array.shape != shape:
            return f"{name} is of {array.shape}, not {shape}"
        if what in ("labels", "before", "after") and (array.dtype.kind not in "iu" or not _within(array, 0, last)):
            return f"{name} is {array.dtype} outside of the classes 0..{last}"
        if what == "adversarial" and any(f"{kind}/{other}" not in arrays for other in ("before", "after")):
            return f"{name} is there without the predictions"
        if what == "slices" and (array.ndim != 3 or not array.size):
            return f"{name} is of {array.shape}"
        if what in ("norm", "curvature") and array.ndim != 1:
            return f"{name} is of {array.shape}"
    return "" if "labels" in arrays else "there are no labels"


def _within(array: Array, low: float, high: float) -> bool:
    return bool(((array >= low) & (array <= high)).all())
