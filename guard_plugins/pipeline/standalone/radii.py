"""Radii that were probably meant in other units than they are read in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from guard_plugins.attacks.base import Attack
    from guard_plugins.evaluation.protocols import Protocol

SMALLEST: Final = 0.3
"""Radii over 255 below this are hardly ever meant: 8/255 written as a share of the range is 0.0314."""


def doubtful_radius(protocol: Protocol, attacks: Mapping[str, type[Attack]]) -> str | None:
    """Return a warning where an L-infinity radius, read over 255, was probably given in pixels of [0, 1].

    Args:
        protocol: The attacks with their radii.
        attacks: All attacks by name.
    """
    radii = [eps for one in protocol.attacks if attacks[one.attack].norm == "Linf" for eps in one.eps if eps > 0]
    over_255 = min((255 * eps for eps in radii), default=SMALLEST)
    if over_255 >= SMALLEST:
        return None
    meant = f"{255 * over_255:.2g}"
    return (
        f"warning: radii are given over 255, so --evaluation.eps {over_255:.4g} is {over_255:.4g}/255, far below one "
        f"grey level. Was {meant}/255 meant? Then give --evaluation.eps {meant}"
    )
