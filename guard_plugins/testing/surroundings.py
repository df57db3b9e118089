"""Everything around a method that it must leave as it found it."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from guard_plugins.data.base import Data


@dataclass(frozen=True)
class Surroundings:
    """A snapshot, as digests and plain values by the name they have in messages."""

    values: Mapping[str, Any]

    @classmethod
    def of(cls, data: Data, teacher: nn.Module | None) -> Surroundings:
        """Take the snapshot.

        Args:
            data: The real data.
            teacher: The teacher, or None.
        """
        return cls({**_settings(), **_data(data), **({} if teacher is None else _model(teacher))})

    def differences(self, after: Surroundings) -> list[str]:
        """Return what changed, in words."""
        return [
            f"{name} changed from {value} to {after.values[name]}"
            for name, value in self.values.items()
            if after.values[name] != value
        ]


def stream_states() -> dict[str, str]:
    """Return a digest of every global random stream."""
    return {
        "PyTorch's global random stream": digest(torch.get_rng_state()),
        "NumPy's global random stream": _numpy_stream(),
        "Python's global random stream": _hash(repr(random.getstate()).encode()),
    }


def digest(tensor: Tensor) -> str:
    """Return a short hash of a tensor's values."""
    return _hash(tensor.detach().cpu().contiguous().numpy().tobytes())


def _numpy_stream() -> str:
    state: dict[str, Any] = np.random.get_state(legacy=False)["state"]
    return _hash(state["key"].tobytes() + str(state["pos"]).encode())


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=6).hexdigest()


def _settings() -> dict[str, Any]:
    return {
        "whether gradients are enabled": torch.is_grad_enabled(),
        "the default dtype": torch.get_default_dtype(),
        "the default device": torch.get_default_device(),
        "whether autocast is enabled": torch.is_autocast_enabled("cpu"),
        "anomaly detection": torch.is_anomaly_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.deterministic": torch.backends.cudnn.deterministic,
        "the number of threads": torch.get_num_threads(),
        "the precision of matrix products": torch.get_float32_matmul_precision(),
        "NumPy's error handling": str(np.geterr()),
        "the working folder": os.getcwd(),  # noqa: PTH109 - compared, not used
        "nn.Module.__call__": id(nn.Module.__call__),
    }


def _data(data: Data) -> dict[str, Any]:
    everything = torch.arange(len(data.train))
    return {
        "the training images": digest(data.train.images(everything)),
        "the training labels": digest(data.train.labels),
    }


def _model(model: nn.Module) -> dict[str, Any]:
    weights = torch.cat([value.detach().double().flatten() for value in model.state_dict().values()])
    hooks = sum(
        len(layer._forward_hooks) + len(layer._forward_pre_hooks) + len(layer._backward_hooks)
        for layer in model.modules()
    )
    return {
        "the teacher's weights and buffers": digest(weights),
        "requires_grad of the teacher's weights": [p.requires_grad for p in model.parameters()].count(True),
        "the number of the teacher's layers in training mode": [m.training for m in model.modules()].count(True),
        "the number of hooks on the teacher": hooks,
    }
