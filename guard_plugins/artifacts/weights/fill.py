"""Puts the weights of a file from another code base into a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from guard_plugins.artifacts.weights.closest import Close, closest
from guard_plugins.artifacts.weights.matching import Match, matches, same_weights
from guard_plugins.artifacts.weights.normalisation import Constants, constants_in, given_constants
from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    from guard_plugins.artifacts.weights.unwrap import StateDict
    from guard_plugins.networks.base import Network
    from guard_plugins.networks.normalised import Normalised


@dataclass(frozen=True)
class Wanted:
    """What the weights are for.

    Attributes:
        network: Name of the architecture.
        image_shape: (C, H, W) of the images.
        classes: Number of classes.
        networks: All architectures by name, for hints.
        mean: Normalisation given by option, or None.
        std: Likewise.
    """

    network: str
    image_shape: tuple[int, int, int]
    classes: int
    networks: Mapping[str, type[Network]]
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def closest(self, weights: Mapping[str, Tensor]) -> list[Close]:
        """Return the architectures closest to ``weights``."""
        return closest(weights, self.networks, image_shape=self.image_shape, classes=self.classes)


def fill(model: Normalised, state: StateDict, wanted: Wanted, path: Path) -> list[str]:
    """Load weights and normalisation into a model.

    Args:
        model: A network of the architecture wanted; its normalisation is the data set's.
        state: What the file holds.
        wanted: What the weights are for.
        path: The file, for messages.

    Returns:
        What was made of the file, one phrase each.

    Raises:
        ConfigError: If names or shapes do not fit, or the normalisation is given twice.
    """
    channels = wanted.image_shape[0]
    default = Constants(tuple(model.mean.flatten().tolist()), tuple(model.std.flatten().tolist()))
    given = given_constants(wanted.mean, wanted.std, default, channels=channels)
    target = model.network.state_dict()
    match = _chosen(state.tensors, target, wanted, path)
    left = _left_over(state.tensors, match)
    inside = constants_in(state.tensors, left, channels=channels, path=path)
    if inside is not None:
        _refuse_second_normalisation(inside, wanted, path)
    constants = inside or given
    extra = [name for name in match.extra if name in left and name not in constants.names]
    if extra:
        raise _misfit(path, wanted, state.tensors, f"the network has no {_few(extra)}")
    model.network.load_state_dict({**target, **{name: state.tensors[own] for name, own in match.source.items()}})
    model.mean.copy_(torch.tensor(constants.mean).view_as(model.mean))
    model.std.copy_(torch.tensor(constants.std).view_as(model.std))
    ignored = [name for name in left if name not in constants.names]
    notes = [*state.notes, *match.notes(), *([constants.note] if constants.note else [])]
    return [*notes, *([f"left out {_few(ignored)}"] if ignored else [])]


def _chosen(weights: Mapping[str, Tensor], target: Mapping[str, Tensor], wanted: Wanted, path: Path) -> Match:
    found = matches(weights, target)
    complete = [match for match in found if match.complete]
    if not complete:
        raise _misfit(path, wanted, weights, _difference(found[0]) if found else "no name agrees")
    best = min(complete, key=lambda match: (not match.plain, len(match.prefix)))
    rivals = [match for match in complete if match.plain == best.plain and not same_weights(best, match, weights)]
    if rivals:
        prefixes = ", ".join(sorted(repr(match.prefix) for match in (best, *rivals)))
        raise ConfigError(
            f"{path} holds several models that fit the network {wanted.network}",
            seen=f"their names begin with {prefixes}",
            do="Save only the one you mean: torch.save(model.state_dict(), FILE).",
        )  # fmt: skip
    return best


def _left_over(weights: Mapping[str, Tensor], match: Match) -> list[str]:
    """Return names that are not the network's: neither matched, nor counters, nor copies of what is matched."""
    used = set(match.source.values())
    endings = {f".{name}": weights[own] for name, own in match.source.items()}
    return [
        name
        for name in weights
        if name not in used
        and not name.endswith(("n_averaged", "num_batches_tracked"))
        and not any(name.endswith(end) and torch.equal(weights[name], value) for end, value in endings.items())
    ]


def _refuse_second_normalisation(inside: Constants, wanted: Wanted, path: Path) -> None:
    given = {"--teacher.mean": wanted.mean, "--teacher.std": wanted.std}
    options = [name for name, value in given.items() if value is not None]
    if options:
        raise ConfigError(
            f"{path} brings its own normalisation, so {' and '.join(options)} cannot be given",
            seen=f"{', '.join(sorted(inside.names))} in the file: mean {_numbers(inside.mean)}, "
            f"std {_numbers(inside.std)}",
            do="Leave the options out.",
        )


def _difference(match: Match) -> str:
    said = "; ".join(match.reshaped[:3])
    missing = f"the file has no {_few(match.missing)}" if match.missing else ""
    extra = f"the network has no {_few(match.extra)}" if match.extra else ""
    return "; ".join(part for part in (said, missing, extra) if part)


def _misfit(path: Path, wanted: Wanted, weights: Mapping[str, Tensor], seen: str) -> ConfigError:
    near = wanted.closest(weights)
    hint = f"Closest by names and shapes: {', '.join(map(str, near))}. " if near else "No known network is close. "
    return ConfigError(
        f"The weights in {path} do not fit the network {wanted.network} (--teacher.network)", seen=seen,
        do=f"{hint}Give the architecture they were trained with, and the data set with its classes and image size "
        f"({wanted.classes} and {wanted.image_shape[1]}x{wanted.image_shape[2]} here).",
    )  # fmt: skip


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
