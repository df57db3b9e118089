"""What a network architecture is to the host, and how plugins provide one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from torch import nn

Activation = Literal["relu", "silu", "gelu"]


@dataclass(frozen=True, kw_only=True)
class NetworkRequest:
    """What the host asks of an architecture.

    Attributes:
        image_shape: (C, H, W) of the input.
        classes: Number of output logits.
        activation: The non-linearity to use.
    """

    image_shape: tuple[int, int, int]
    classes: int
    activation: Activation = "relu"


class Network(ABC):
    """An architecture, as plugins register it.

    Attributes:
        name: What users pass to ``--teacher.network`` and ``--student.network``.
        summary: One line for listings.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def build(self, request: NetworkRequest) -> nn.Module:
        """Return a freshly initialised network from normalised images (B, C, H, W) to logits (B, classes).

        Weights are drawn from PyTorch's global generator, which the host has seeded.

        Raises:
            ConfigError: If the architecture cannot take such images.
        """
