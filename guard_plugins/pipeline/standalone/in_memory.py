"""Models and data in memory, checked before anything is done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from guard_plugins.errors import ConfigError, TrainingError
from guard_plugins.pipeline.standalone.load_data import load_data
from guard_plugins.runtime.eval_mode import borrowed, device_of

if TYPE_CHECKING:
    from guard_plugins.data.base import Data


def data_of(given: Any) -> Data:
    """Return the data set of that name, or the one that was given.

    Raises:
        ConfigError: If it is neither.
        DataError: If its files are missing or malformed.
    """
    if isinstance(given, str):
        return load_data(given)
    if not all(hasattr(given, name) for name in ("image_shape", "classes", "train", "test")):
        raise ConfigError(
            "data is neither the name of a data set nor one", seen=type(given).__name__,
            do="Give a name, such as 'digits', or what guard_plugins.load_data returns.",
        )  # fmt: skip
    found: Data = given
    return found


def require_fitting(model: Any, data: Data, images: Tensor) -> None:
    """Return if a model gives logits for the images of a data set.

    Args:
        model: What was given as a model.
        data: The data set.
        images: A few images (B, C, H, W).

    Raises:
        ConfigError: If it is no module, cannot be differentiated, does not take the images, or returns anything else.
        TrainingError: If a logit is not finite.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError("The model is no torch.nn.Module", seen=type(model).__name__, do="Give the module itself.")
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ConfigError(
            "The model was built under torch.inference_mode(), and no attack can differentiate it",
            do="Build it outside, or give copy.deepcopy(model), made outside.",
        )
    try:
        with torch.no_grad(), borrowed(model):
            logits = model(images.to(device_of(model)))
    except Exception as error:  # other people's code may raise anything
        raise ConfigError(
            f"The model does not take images of shape {tuple(data.image_shape)}, those of {data.name}",
            seen=f"{type(error).__name__}: {str(error)[:200]}",
        ) from error
    expected = (len(images), len(data.classes))
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        seen = str(tuple(logits.shape)) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(f"The model does not return logits of shape {expected} for {len(images)} images", seen=seen)
    if not logits.isfinite().all():
        raise TrainingError("The model's logits are not finite", do="Look at its weights: one may be NaN.")
