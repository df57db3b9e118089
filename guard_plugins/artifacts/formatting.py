"""How numbers are written for people, in the gate, on the terminal and in reports alike."""

from __future__ import annotations

from collections.abc import Mapping


def attack_name(label: str, names: Mapping[str, str]) -> str:
    """Return an attack's label as papers write it: ``PGD-20`` for ``pgd-20``.

    Args:
        label: The attack's name, with its settings if it has any.
        names: How names are written; one that is not known stays as it is.
    """
    known = [name for name in names if label == name or label.startswith(f"{name}-")]
    longest = max(known, key=len, default="")
    return names[longest] + label[len(longest) :] if longest else label


def percent(value: float | None, sd: float | None = None) -> str:
    """Return a share in percent with one decimal, with its standard deviation where there is one."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}" + (f" ± {100 * sd:.1f}" if sd is not None else "")


def change(difference: float) -> str:
    """Return the difference of two shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}"


def points(difference: float) -> str:
    """Return the size of a difference of two shares in percentage points: ``4``, ``0.5``."""
    return f"{100 * abs(difference):.1f}".removesuffix(".0")


def radius(eps: float, norm: str = "Linf") -> str:
    """Return a radius as papers write it: ``8/255`` in L-infinity, ``0.5`` in L2."""
    return f"{255 * eps:.4g}/255" if norm == "Linf" else f"{eps:g}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 image``, ``10 images``, ``2 classes``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours, whichever suits it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def byte_count(count: int) -> str:
    """Return a number of bytes in decimal units."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
