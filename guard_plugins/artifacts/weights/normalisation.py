"""The normalisation of a network from another code base: in its file, or given beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from guard_plugins.artifacts.weights.naming import NORMALISATION, last_part
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
        ConfigError: If there are several that differ.
    """
    left = set(names)
    found: dict[tuple[tuple[float, ...], tuple[float, ...]], set[str]] = {}
    for mean_name, std_name in ((m, s) for m in sorted(left) for s in _partners(m, left)):
        mean, std = (_channels(weights[name], channels) for name in (mean_name, std_name))
        if mean and std and min(std) > 0:
            found.setdefault((mean, std), set()).update((mean_name, std_name))
    if len(found) > 1:
        raise ConfigError(
            f"{path} holds several normalisations that differ",
            seen=", ".join(sorted(name for names in found.values() for name in names)),
            do="Save the state dict of one model alone.",
        )
    for (mean, std), used in found.items():
        return _in_unit_range(mean, std, frozenset(used))
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


def _partners(mean_name: str, names: set[str]) -> list[str]:
    stem = mean_name[: len(mean_name) - len(last_part(mean_name))]
    return [stem + std for mean, std in NORMALISATION if last_part(mean_name) == mean and stem + std in names]


def _channels(tensor: Tensor, channels: int) -> tuple[float, ...]:
    """Return the numbers, one per channel, or nothing if they are not that."""
    if tensor.numel() not in (1, channels) or not tensor.is_floating_point():
        return ()
    values = tuple(tensor.flatten().tolist())
    return values * channels if len(values) == 1 else values


def _in_unit_range(mean: tuple[float, ...], std: tuple[float, ...], names: frozenset[str]) -> Constants:
    """Return the constants for pixels in [0, 1]; a mean above 1 can only be of pixels in [0, 255]."""
    note = f"took the normalisation from {' and '.join(sorted(names)[:2])}"
    if max(mean) <= 1:
        return Constants(mean, std, names, note)
    scaled = [tuple(value / 255 for value in values) for values in (mean, std)]
    return Constants(scaled[0], scaled[1], names, f"{note}, divided by 255 for pixels in [0, 1]")
