"""How numbers are written for people, in the gate, on the terminal and in reports alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


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


def tested(dataset: str) -> str:
    """Return what images a report's accuracies are on: test images, or those of ``--data.validation-per-class``."""
    held_out = "held-out training images"
    return held_out if held_out in dataset else "test images"


def numbers(found: Iterable[int]) -> str:
    """Return whole numbers in order, three or more that follow each other as ``0 to 9``: ``0, 1``, ``0 to 4, 7``."""
    parts: list[list[int]] = []
    for number in sorted(set(found)):
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    texts = [f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts]
    return ", ".join(texts)


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
