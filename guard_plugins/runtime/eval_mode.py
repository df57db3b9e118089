"""A model borrowed for an evaluation: eval mode and frozen while it lasts, exactly as found afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def borrowed(*models: nn.Module) -> Iterator[None]:
    """Put ``models`` in eval mode with frozen parameters, and undo every trace of the block on leaving it.

    Restored are each module's own training flag, each parameter's ``requires_grad`` and the global random streams
    of PyTorch (every device), NumPy and Python. Frozen parameters receive no gradient, so ``.grad`` stays as it was.
    """
    modules = [(module, module.training) for model in models for module in model.modules()]
    parameters = [(parameter, parameter.requires_grad) for model in models for parameter in model.parameters()]
    with _global_streams_kept(), torch.inference_mode(False):
        try:
            for model in models:
                model.eval()
            for parameter, _ in parameters:
                parameter.requires_grad_(False)
            yield
        finally:
            for module, training in modules:
                module.training = training
            for parameter, requires_grad in parameters:
                parameter.requires_grad_(requires_grad)


@contextmanager
def _global_streams_kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the first parameter or buffer of ``model``, the CPU where it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")
