"""Matches the weights of a file to those of a network, by names and shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from guard_plugins.artifacts.weights.naming import BOOKKEEPING, HOLDERS, SCHEMES, last_part


@dataclass(frozen=True)
class Match:
    """One way to read a file's names as a network's.

    Attributes:
        prefix: What stands before every name in the file.
        scheme: Whose names they are; empty for this project's, which are torchvision's for ResNets.
        source: Name in the file by name in the network, where the shapes agree.
        missing: Names of the network that the file does not have.
        reshaped: Names whose shapes differ, or that hold whole numbers, each as a phrase.
        extra: Names under the prefix that the network does not have.
    """

    prefix: str
    scheme: str
    source: Mapping[str, str]
    missing: tuple[str, ...]
    reshaped: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every weight of the network is there, in its shape."""
        return not self.missing and not self.reshaped

    @property
    def score(self) -> float:
        """Share of the names on either side that agree."""
        return len(self.source) / max(len(self.source) + len(self.missing) + len(self.reshaped) + len(self.extra), 1)

    @property
    def plain(self) -> bool:
        """Whether the prefix consists of parts that wrap a model everywhere."""
        return all(part in HOLDERS for part in self.prefix.split(".")[:-1])

    def notes(self) -> list[str]:
        """Return what was made of the names, one phrase each."""
        said = [f"dropped the prefix {self.prefix!r} of the names"] if self.prefix else []
        return [*said, *([f"read the names as those of {self.scheme}"] if self.scheme else [])]


def matches(weights: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> list[Match]:
    """Return every way to read the names, best first.

    Args:
        weights: Tensors by their names in the file.
        target: The network's, which may be on the meta device.
    """
    found: dict[tuple[str, tuple[str, ...]], Match] = {}
    for scheme, rename in SCHEMES.items():
        renamed = {rename(name): name for name in weights}
        if len(renamed) < len(weights):
            continue  # two names became one, such as those of two linear layers
        for prefix in _prefixes(renamed, target):
            match = _match(renamed, weights, target, prefix, scheme)
            found.setdefault((prefix, tuple(match.source.values())), match)
    return sorted(found.values(), key=lambda match: (not match.complete, -match.score, not match.plain, match.prefix))


def same_weights(one: Match, other: Match, weights: Mapping[str, Tensor]) -> bool:
    """Return whether two complete matches give the network the same weights."""
    return all(torch.equal(weights[one.source[name]], weights[other.source[name]]) for name in one.source)


def _prefixes(names: Mapping[str, str], target: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield every prefix after which a name of the target follows in ``names``, each once."""
    seen = set()
    for name in names:
        parts = name.split(".")
        for start in range(len(parts)):
            prefix = "".join(f"{part}." for part in parts[:start])
            if ".".join(parts[start:]) in target and prefix not in seen:
                seen.add(prefix)
                yield prefix


def _match(
    renamed: Mapping[str, str], weights: Mapping[str, Tensor], target: Mapping[str, Tensor], prefix: str, scheme: str
) -> Match:
    source, missing, reshaped = {}, [], []
    for name, wanted in target.items():
        origin = renamed.get(prefix + name)
        if origin is None:
            missing += [] if last_part(name) in BOOKKEEPING else [name]
        elif weights[origin].shape != wanted.shape:
            reshaped.append(f"{name} is {tuple(weights[origin].shape)}, not {tuple(wanted.shape)}")
        elif wanted.is_floating_point() and not weights[origin].is_floating_point():
            reshaped.append(f"{name} is of {weights[origin].dtype}, not of floating point")
        else:
            source[name] = origin
    extra = tuple(
        origin
        for name, origin in renamed.items()
        if name.startswith(prefix) and name[len(prefix) :] not in target and last_part(name) not in BOOKKEEPING
    )
    return Match(prefix, scheme, source, tuple(missing), tuple(reshaped), extra)
