"""The non-linearities every built-in architecture offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from torch import nn

from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_ACTIVATIONS: Final[dict[str, Callable[[], nn.Module]]] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


def activation_layer(name: str) -> nn.Module:
    """Return a new activation module that never writes in place.

    In-place activations overwrite the tensor a second backward, or a replay of the forward pass, still needs.

    Args:
        name: ``relu``, ``silu`` or ``gelu``.

    Raises:
        ConfigError: If the name is none of these.
    """
    if name not in _ACTIVATIONS:
        raise ConfigError(
            f"There is no activation called {name!r}.",
            seen=f"activation={name!r}",
            do=f"Use {', '.join(_ACTIVATIONS)}.",
        )
    return _ACTIVATIONS[name]()


def replace_relu(network: nn.Module, name: str) -> None:
    """Put a new activation in the place of every ReLU of ``network``, whatever the depth.

    Args:
        network: Changed in place.
        name: ``relu``, ``silu`` or ``gelu``.
    """
    for parent in list(network.modules()):
        for child_name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, child_name, activation_layer(name))
