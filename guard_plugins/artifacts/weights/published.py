"""Published weights of torchvision and timm by name, taken from their caches; downloaded only where that is allowed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from guard_plugins.errors import ConfigError

LIBRARIES: Final = ("torchvision", "timm")


@dataclass(frozen=True)
class Published:
    """Published weights on this machine.

    Attributes:
        path: Their file.
        network: The name of their architecture.
        mean: Per-channel mean they were trained with.
        std: Per-channel standard deviation, likewise.
    """

    path: Path
    network: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def is_published(path: Path) -> bool:
    """Return whether a path is a name of published weights, such as ``torchvision:resnet18``."""
    return str(path).partition(":")[0] in LIBRARIES and ":" in str(path)


def find_published(path: Path, *, download: bool) -> Published:
    """Return published weights by their name.

    Args:
        path: ``torchvision:MODEL`` or ``torchvision:MODEL.WEIGHTS`` (``resnet18.IMAGENET1K_V1``), or
            ``timm:MODEL.TAG`` (``resnet18.a1_in1k``).
        download: Whether they may be downloaded.

    Raises:
        ConfigError: If the library is not installed, does not know the name, or the weights are neither cached nor to
            be downloaded.
    """
    library, _, name = str(path).partition(":")
    try:
        importlib.import_module(library)
    except ImportError as error:
        raise ConfigError(f"{path} needs {library}, which is not installed", do=f"pip install {library}") from error
    try:
        return {"torchvision": _torchvision, "timm": _timm}[library](name, download)
    except (KeyError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{library} publishes no weights called {name!r}", seen=str(error).strip('"'),
            do="For example torchvision:resnet18.IMAGENET1K_V1 or timm:resnet18.a1_in1k.",
        ) from error  # fmt: skip
    except OSError as error:
        raise ConfigError(f"The weights {path} cannot be downloaded", seen=str(error)) from error


def _torchvision(name: str, download: bool) -> Published:
    import torch
    from torchvision import models

    network, _, member = name.partition(".")
    weights: Any = models.get_model_weights(network)
    chosen: Any = weights[member] if member else weights.DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / chosen.url.rpartition("/")[2]
    if not file.is_file():
        _require_download(f"torchvision:{name}", str(file), download)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(chosen.url, str(file), hash_prefix=file.stem.rpartition("-")[2])
    transforms = chosen.transforms()
    return Published(file, network, tuple(transforms.mean), tuple(transforms.std))


def _timm(name: str, download: bool) -> Published:
    import huggingface_hub
    import timm

    try:
        config: Any = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:  # for a tag it does not know
        raise KeyError(str(error)) from error
    if config is None or not config.hf_hub_id:
        raise KeyError(f"no pretrained configuration with a hub id for {name}")
    file = huggingface_hub.try_to_load_from_cache(config.hf_hub_id, "model.safetensors")
    if not isinstance(file, str):
        _require_download(f"timm:{name}", f"the Hugging Face cache of {config.hf_hub_id}", download)
        file = huggingface_hub.hf_hub_download(config.hf_hub_id, "model.safetensors")
    return Published(Path(file), name.partition(".")[0], tuple(config.mean), tuple(config.std))


def _require_download(name: str, place: str, download: bool) -> None:
    if not download:
        raise ConfigError(
            f"The weights {name} are not on this machine", seen=f"looked in {place}",
            do="Add --download to allow the download.",
        )  # fmt: skip
