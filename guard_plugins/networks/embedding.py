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
        self._network = model.network.requires_grad_(False)
        linear = [layer for layer in model.network.modules() if isinstance(layer, nn.Linear)]
        if not linear:
            raise ConfigError(
                f"Features are what the last linear layer of a network is given, but this one has none ({option})",
                do="Take another architecture, such as convnet3.",
            )
        self._last = linear[-1]

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features (B, D) of normalised images (B, C, H, W)."""
        given: list[Tensor] = []

        def note(_layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            given.append(arguments[0])

        handle = self._last.register_forward_pre_hook(note)
        try:
            self._network(images)
        finally:
            handle.remove()
        return given[-1]
