"""How numbers and names are written for people."""

from __future__ import annotations

from typing import Final

_NAMES: Final = {"pgd": "PGD", "fgsm": "FGSM", "mim": "MIM", "cw": "CW", "apgd": "APGD", "fab": "FAB", "dlr": "DLR"}
_WHOLE: Final = {"autoattack": "AutoAttack", "square": "Square", "linf": "L∞", "l2": "L2", "ce": "CE", "t": "T"}


def attack_name(label: str) -> str:
    """Return an attack's label as the field writes it: ``PGD-20`` for ``pgd-20``."""
    return "-".join(_NAMES.get(part, _WHOLE.get(part, part)) for part in label.split("-"))


def percent(value: float | None, sd: float | None = None) -> str:
    """Return a share in percent with one decimal, with its standard deviation where there is one."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}" + (f" ± {100 * sd:.1f}" if sd is not None else "")


def radius(eps: float, norm: str = "Linf") -> str:
    """Return a radius as the field writes it: ``8/255`` in L-infinity, ``0.5`` in L2."""
    return f"{255 * eps:.4g}/255" if norm == "Linf" else f"{eps:g}"


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
