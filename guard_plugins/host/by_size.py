"""Chooses a preset by the size of the images where none is named and none has the name of the data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from guard_plugins.config.layers import Layer, merged
from guard_plugins.config.presets import PRESETS
from guard_plugins.data.base import DataSet

if TYPE_CHECKING:
    from guard_plugins.config import RunConfig
    from guard_plugins.method import Method

TINY: Final = 16
"""Pixels a side up to which the settings of digits are taken; above, those of ``fast``."""
STEPS: Final = 220
"""Steps that a teacher takes at least; ten epochs of digits have as many."""
LARGEST: Final = 64
"""Pixels a side to which larger images are resized, so that a CPU does the job in minutes."""


def sized(config: RunConfig, method: type[Method], dataset: type[DataSet], layers: Sequence[Layer]) -> Layer | None:
    """Return the settings that the size of the images suggests; None where the user or the data set's name decides.

    Args:
        config: What the layers give without it.
        method: The method's class.
        dataset: The data set's class.
        layers: Where settings come from.
    """
    given = merged(*(layer.values for layer in layers))
    if config.preset is not None or "preset" in given or config.dataset in {*PRESETS, *method.presets}:
        return None
    if dataset.side is DataSet.side:  # it does not know
        return None
    side = config.data.image_size or dataset().side(config.data_request())
    if side is None:
        return None
    chosen: dict[str, Any] = {"preset": "digits" if side <= TINY else "fast"}
    if side > LARGEST and config.data.image_size is None:
        chosen["data"] = {"image_size": LARGEST}
    epochs = _epochs(chosen["preset"], config, dataset)
    if epochs is not None:
        chosen["teacher"] = {"epochs": epochs}
    return Layer(f"the size of the images, {side} pixels", chosen)


def _epochs(preset: str, config: RunConfig, dataset: type[DataSet]) -> int | None:
    """Return the teacher's epochs on few images, so that it takes as many steps as on digits; None for the preset's."""
    teacher = PRESETS[preset]["teacher"]
    batch = config.teacher.batch_size if "batch_size" in config.teacher.model_fields_set else teacher["batch_size"]
    enough = batch * (STEPS // teacher["epochs"])
    images = dataset().training_images(config.data_request(), enough)
    return None if not images or images >= enough else -(-STEPS // max(1, images // batch))


def chosen_note(config: RunConfig) -> str:
    """Return what was chosen, in a sentence for the person who did not choose it."""
    size = config.data.image_size
    resized = f", images resized to {size} pixels a side (--data.image-size)" if size else ""
    limits = config.data.train_per_class, config.data.test_per_class
    usual = PRESETS[config.preset or "fast"]["teacher"]["epochs"]
    few = ""
    if config.teacher.epochs > usual:
        few = f", and {config.teacher.epochs} epochs for the teacher, since there are few images"
    most = f", at most {limits[0]} training and {limits[1]} test images per class" if all(limits) else ""
    return (
        f"note: there is no preset for the data set {config.dataset!r}, so the size of its images decides: --preset "
        f"{config.preset}{resized}{most}{few}. Published settings are --preset cifar10, tiny-imagenet or imagenet."
    )
