"""A model trained anywhere becomes the teacher of a run: written as ``guard-run --teacher`` reads it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import torch
from torch import nn

from guard_plugins.artifacts.teacher import TeacherCard, write_teacher
from guard_plugins.errors import ConfigError, GuardError
from guard_plugins.host import PluginHost
from guard_plugins.host.own_network import is_own_network
from guard_plugins.networks.base import Activation
from guard_plugins.networks.normalised import Normalised, build_normalised
from guard_plugins.pipeline.guard import hook_report
from guard_plugins.pipeline.standalone.in_memory import data_of, require_fitting

if TYPE_CHECKING:
    from guard_plugins.curvature import CurvatureHook
    from guard_plugins.data.base import Data

PROBES: Final = 4
"""Images on which a rebuilt network must give the same logits."""


def save_teacher(
    path: str | Path,
    model: nn.Module,
    data: str | Data,
    *,
    network: str | None = None,
    activation: Activation | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    hook: CurvatureHook | None = None,
) -> Path:
    """Write a model as a teacher that ``guard-run --teacher`` and ``guard-eval`` take.

    The network is built anew and must give the same logits, so that a file never says it is another one.

    Args:
        path: File to write; its name ends in ``.safetensors``.
        model: Images in, logits out.
        data: What it was trained on: a data set's name, or what :func:`guard_plugins.load_data` returns.
        network: Its architecture: a registered name, or ``FILE.py:NAME`` or ``MODULE:NAME`` of a function or class of
            your own. Where None, the registered architectures are tried.
        activation: Its activation function, for registered architectures; all are tried where None.
        mean: Per-channel mean that images in [0, 1] are normalised with before they get to ``model``. Without mean and
            std, ``model`` takes pixels in [0, 1] as they are.
        std: Per-channel standard deviation, likewise.
        hook: The curvature hook it was trained under, if any.

    Returns:
        The path.

    Raises:
        ConfigError: If no known network gives the same logits, or file name or normalisation are wrong.
        TrainingError: If a weight or logit is not finite.
        ArtifactError: If the file cannot be written.
    """
    path, data = Path(path), data_of(data)
    if path.suffix != ".safetensors":
        raise ConfigError("A teacher's file ends in .safetensors", seen=str(path))
    images = torch.rand(PROBES, *data.image_shape, generator=torch.Generator().manual_seed(0))
    require_fitting(model, data, images)
    whole = _with_normalisation(model, data, mean, std)
    rebuilt, name, used = _rebuilt(whole, data, network, activation)
    guard = {key: getattr(hook.options, key) for key in ("h_rms", "h", "weight", "penalty", "every")} if hook else None
    card = TeacherCard(
        network=name, activation=used, image_shape=data.image_shape, classes=data.classes, guard=guard,
        training="plain" if hook else "unknown", hook=hook_report(hook),
    )  # fmt: skip
    write_teacher(path, rebuilt, card)
    return path


def _with_normalisation(
    model: nn.Module, data: Data, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Normalised:
    """Return a copy of the model, on the CPU and in eval mode, that takes pixels in [0, 1]."""
    own = copy.deepcopy(model).cpu().eval()
    channels = data.image_shape[0]
    if isinstance(own, Normalised):
        if mean is not None or std is not None:
            raise ConfigError("The model brings its own normalisation, so mean and std cannot be given")
        return own
    wrong = any(not _are_numbers(v, channels) for v in (mean, std) if v is not None)
    if (mean is None) != (std is None) or wrong or (std is not None and min(std) <= 0):
        raise ConfigError(
            "mean and std go together, with one number for each channel", seen=f"mean={mean}, std={std}",
            do=f"Give both, with {channels} numbers each, those of std above 0, for pixels in [0, 1]; or neither.",
        )  # fmt: skip
    return Normalised(own, mean=mean or [0.0] * channels, std=std or [1.0] * channels).eval()


def _are_numbers(values: Any, count: int) -> bool:
    return isinstance(values, Sequence) and len(values) == count and all(isinstance(v, int | float) for v in values)


def _rebuilt(
    whole: Normalised, data: Data, network: str | None, activation: Activation | None
) -> tuple[Normalised, str, Activation]:
    """Return the network built anew by name with the model's weights, its name, and its activation."""
    images = torch.rand(PROBES, *data.image_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = whole(images)
    tried = []
    for name, used, candidate in _candidates(data, network, activation):
        try:
            candidate.load_state_dict(whole.state_dict())
        except RuntimeError as error:
            tried.append(f"{name}: {str(error).splitlines()[1].strip()[:120]}")
            continue
        with torch.no_grad():
            if torch.allclose(candidate.eval()(images), wanted, rtol=1e-3, atol=1e-4):
                return candidate, name, used
        tried.append(f"{name} with {used}: same names and shapes, other logits")
    raise ConfigError(
        "The model cannot be built anew from its weights alone" + (f" (network {network!r})" if network else ""),
        seen="; ".join(tried[:3]) if network else "no registered network has its names, shapes and logits",
        do="Give network='FILE.py:NAME' with the function or class that builds it.",
    )


def _candidates(
    data: Data, network: str | None, activation: Activation | None
) -> Iterator[tuple[str, Activation, Normalised]]:
    networks = PluginHost(only=[] if network and is_own_network(network) else None).networks
    activations: Sequence[Any] = [activation] if activation else get_args(Activation)
    if network and is_own_network(network):
        activations = [activation or "relu"]
    for name in [network] if network else list(networks):
        for used in activations:
            try:
                with torch.random.fork_rng(devices=[]):
                    yield name, used, build_normalised(networks[name](), data, activation=used)
            except GuardError:
                if network:
                    raise
