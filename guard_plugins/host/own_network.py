"""Networks of one's own, named by where their code is: ``my_nets:Net`` or ``my_nets.py:Net``, without any plugin."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from guard_plugins.errors import ConfigError
from guard_plugins.files import regular
from guard_plugins.host.plugin_file import version_of
from guard_plugins.host.registry import Registered, Registry
from guard_plugins.networks.base import Network

if TYPE_CHECKING:
    from types import ModuleType

    from torch import nn

    from guard_plugins.networks.base import NetworkRequest

SEPARATOR: Final = ":"
"""Between module or file and the function or class in it."""


class NetworkRegistry(Registry[Network]):
    """The registered networks, and any of one's own that is asked for by ``MODULE:NAME`` or ``FILE.py:NAME``."""

    def registered(self, name: str) -> Registered[Network]:
        """Return the network called ``name``; the code of one's own is imported when it is first asked for.

        Raises:
            UnknownNameError: If it is no registered name; the nearest name is offered.
            ConfigError: If the code of one's own cannot be imported, or has no such function or class.
        """
        if SEPARATOR in name and name not in set(self):
            place, _, attribute = name.rpartition(SEPARATOR)
            module = _imported(place, name)
            self.add(_network_class(name, place, getattr(module, attribute, None)), name, _origin(module))
        return super().registered(name)


def is_own_network(name: str) -> bool:
    """Return whether a name stands for code of one's own, which is imported when the network is built."""
    return SEPARATOR in name


def _origin(module: ModuleType) -> str:
    path = Path(module.__file__ or "")
    return f"{path.name} {version_of(path)}" if path.is_file() else "your own code"


def _network_class(name: str, place: str, factory: Any) -> type[Network]:
    if not callable(factory):
        raise ConfigError(
            f"There is no function or class {name.rpartition(SEPARATOR)[2]!r} in {place} (network {name!r})",
            do="Name one that returns a torch.nn.Module.",
        )
    if isinstance(factory, type) and issubclass(factory, Network):
        return type(factory.__name__, (factory,), {"name": name})

    def build(self: Network, request: NetworkRequest) -> nn.Module:
        return _built(name, factory, request)

    return type("OwnNetwork", (Network,), {"name": name, "summary": name, "build": build})


def _imported(place: str, name: str) -> ModuleType:
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, regular(Path(place)))
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        sys.path.insert(0, str(Path.cwd()))
        try:
            return importlib.import_module(place)
        finally:
            sys.path.remove(str(Path.cwd()))
    except (Exception, SystemExit) as error:  # other people's code may raise anything
        raise ConfigError(
            f"The code of the network {name!r} cannot be imported", seen=f"{type(error).__name__}: {error}",
            do="Give MODULE:NAME of a module that can be imported from here, or FILE.py:NAME.",
        ) from error  # fmt: skip


def _built(name: str, factory: Any, request: NetworkRequest) -> nn.Module:
    """Call a factory with what of the request it has parameters for, and check what it returns."""
    import torch
    from torch import nn

    offered = {
        "image_shape": request.image_shape, "classes": request.classes, "num_classes": request.classes,
        "activation": request.activation,
    }  # fmt: skip
    try:
        wanted = inspect.signature(factory).parameters
        network = factory(**{key: value for key, value in offered.items() if key in wanted})
        if not isinstance(network, nn.Module):
            raise TypeError(f"it returned {type(network).__name__}, not a torch.nn.Module")
        training = network.training
        with torch.no_grad():
            logits = network.eval()(torch.zeros(2, *request.image_shape))
        network.train(training)
    except Exception as error:
        raise ConfigError(
            f"The network {name!r} cannot be built for images {request.image_shape}",
            seen=f"{type(error).__name__}: {error}",
            do="Its function or class is called with those of image_shape, classes (or num_classes) and activation "
            "that it has parameters for.",
        ) from error
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else None
    if shape != (2, request.classes):
        seen = f"a {type(logits).__name__}, not one tensor" if shape is None else f"outputs of shape {shape}"
        raise ConfigError(
            f"The network {name!r} does not fit the data set", seen=f"two images give {seen}",
            do=f"It must return logits (B, {request.classes}) for images (B, C, H, W).",
        )  # fmt: skip
    return network
