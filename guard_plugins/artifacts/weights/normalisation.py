"""The normalisation of a network from another code base: in its file, or given beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from guard_plugins.artifacts.weights.naming import DEVIATIONS, MEANS, last_part
from guard_plugins.errors import ConfigError


@dataclass(frozen=True)
class Constants:
    """Per-channel mean and standard deviation of pixels in [0, 1], the names they have in a file, and a note."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: frozenset[str] = frozenset()
    note: str = ""


def constants_in(weights: Mapping[str, Tensor], names: Iterable[str], *, channels: int, path: Path) -> Constants | None:
    """Return the normalisation a file holds beside its weights, or None.

    Args:
        weights: Tensors by their names in the file.
        names: Those that are not the network's.
        channels: Channels of the images.
        path: The file, for messages.

    Raises:
        ConfigError: If there are several that differ, or one cannot be used.
    """
    left = {name for name in names if _is_constant(name) and weights[name].numel() in (1, channels)}
    found: dict[tuple[tuple[float, ...], tuple[float, ...]], set[str]] = {}
    for mean_name, std_name in ((m, s) for m in sorted(left) for s in _partners(m, left)):
        mean, std = (_channels(weights[name], channels) for name in (mean_name, std_name))
        if min(std) > 0 and min(mean) >= 0:
            found.setdefault((mean, std), set()).update((mean_name, std_name))
    if len(found) > 1:
        raise ConfigError(
            f"{path} holds several normalisations that differ",
            seen=", ".join(sorted(name for names in found.values() for name in names)),
            do="Save the state dict of one model alone.",
        )
    for (mean, std), used in found.items():
        return _in_unit_range(mean, std, frozenset(used))
    unused = sorted(name for name in left if weights[name].dim() and weights[name].numel() == channels)
    if unused:
        raise ConfigError(
            f"{path} holds a normalisation that cannot be used",
            seen=", ".join(f"{name} {_said(_channels(weights[name], channels))}" for name in unused),
            do="It needs a mean and a deviation above 0 for each channel. Save the state dict without it, and give "
            "--teacher.mean and --teacher.std.",
        )
    return None


def given_constants(
    mean: Sequence[float] | None, std: Sequence[float] | None, default: Constants, *, channels: int
) -> Constants:
    """Return the normalisation given by option; what is not given is taken from ``default``.

    Args:
        mean: One number, or one per channel.
        std: Likewise.
        default: The data set's.
        channels: Channels of the images.

    Raises:
        ConfigError: If a number is not one for pixels in [0, 1].
    """
    for option, values in (("--teacher.mean", mean), ("--teacher.std", std)):
        if values is None:
            continue
        said = " ".join(f"{value:g}" for value in values)
        if len(values) not in (1, channels):
            raise ConfigError(
                f"{option} needs one number, or one for each of the {channels} channels", seen=said,
                do="Give them for pixels in [0, 1], as 0.49,0.48,0.45.",
            )  # fmt: skip
        if not all(map(math.isfinite, values)):
            raise ConfigError(
                f"{option} holds a number that is not finite", seen=said,
                do="Give the constants that the network was trained with, for pixels in [0, 1].",
            )  # fmt: skip
        if max(values) > 1:
            raise ConfigError(
                f"{option} is for pixels in [0, 1], but a number is above 1", seen=said,
                do=f"If it is for pixels in [0, 255], divide by 255: {option} "
                f"{','.join(f'{value / 255:.4g}' for value in values)}",
            )  # fmt: skip
        if min(values) < 0 or (option == "--teacher.std" and min(values) == 0):
            raise ConfigError(
                f"{option} must not be {'negative' if min(values) < 0 else 'zero'}", seen=said,
                do="Give the constants that the network was trained with, for pixels in [0, 1].",
            )  # fmt: skip
    chosen = (default.mean if mean is None else tuple(mean), default.std if std is None else tuple(std))
    wide = [values * channels if len(values) == 1 else values for values in chosen]
    return Constants(wide[0], wide[1])


def _is_constant(name: str) -> bool:
    return any(pattern.fullmatch(last_part(name)) for pattern in (MEANS, DEVIATIONS))


def _partners(mean_name: str, names: set[str]) -> list[str]:
    """Return the deviations that stand beside a mean; none for a name of something else."""
    stem = mean_name.removesuffix(last_part(mean_name))
    beside = sorted(name for name in names if name.removesuffix(last_part(name)) == stem)
    return [n for n in beside if DEVIATIONS.fullmatch(last_part(n))] if MEANS.fullmatch(last_part(mean_name)) else []


def _channels(tensor: Tensor, channels: int) -> tuple[float, ...]:
    """Return the numbers, one per channel."""
    values = tuple(map(float, tensor.flatten().tolist()))
    return values * channels if len(values) == 1 else values


def _said(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)


def _in_unit_range(mean: tuple[float, ...], std: tuple[float, ...], names: frozenset[str]) -> Constants:
    """Return the constants for pixels in [0, 1]; a mean above 1 can only be of pixels in [0, 255]."""
    note = f"took the normalisation from {' and '.join(sorted(names)[:2])}"
    if max(mean) <= 1:
        return Constants(mean, std, names, note)
    scaled = [tuple(value / 255 for value in values) for values in (mean, std)]
    return Constants(scaled[0], scaled[1], names, f"{note}, divided by 255 for pixels in [0, 1]")
