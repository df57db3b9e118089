"""The features of images: what the last linear layer of a network is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from guard_plugins.networks.normalised import Normalised


class Embedding:
    """Maps normalised images to the input of the network's last linear layer.

    Args:
        model: The network; its weights are frozen.
        option: The option that names the network, for the error.

    Raises:
        ConfigError: If it has no linear layer.
    """

    def __init__(self, model: Normalised, *, option: str = "--teacher.network") -> None:
        self._network = WithFeatures(model.network.requires_grad_(False), option=option)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features (B, D) of normalised images (B, C, H, W)."""
        features: Tensor = self._network(images)[1]
        return features


class WithFeatures(nn.Module):
    """A network that returns its features beside the logits: what its last linear layer is given.

    They are an output, so that the curvature hook sees how a loss on them comes from the images.

    Attributes:
        network: The network itself, in whatever mode it is in.
        last: Its last linear layer.

    Args:
        network: From images to logits.
        option: The option that names the network, for the error.

    Raises:
        ConfigError: If it has no linear layer.
    """

    def __init__(self, network: nn.Module, *, option: str = "--teacher.network") -> None:
        super().__init__()
        linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        if not linear:
            raise ConfigError(
                f"Features are what the last linear layer of a network is given, but this one has none ({option})",
                do="Take another architecture, such as convnet3.",
            )
        self.network, self.last = network, linear[-1]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) and the features (B, D) of images (B, C, H, W), from one pass."""
        given: list[Tensor] = []

        def note(_layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            given.append(arguments[0])

        handle = self.last.register_forward_pre_hook(note)
        try:
            logits = self.network(images)
        finally:
            handle.remove()
        return logits, given[-1]
