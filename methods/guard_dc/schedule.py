"""How many steps DC takes on one network, by the number of images per class."""

from __future__ import annotations

import bisect
from typing import Final, NamedTuple


class Loops(NamedTuple):
    """Image steps per network, and epochs on the distilled set between two of them."""

    outer: int
    inner: int


PUBLISHED: Final = {1: Loops(1, 1), 10: Loops(10, 50), 20: Loops(20, 25), 30: Loops(30, 20), 40: Loops(40, 15),
                    50: Loops(50, 10)}  # fmt: skip
"""The table of the published code, which accepts no other number."""


def loops_for(ipc: int) -> Loops:
    """Return the loops for ``ipc`` images per class.

    In the published table the outer loop is the IPC. Between its entries the inner loop is interpolated linearly. Above
    the last entry, its loops are used, as the authors advise.

    Args:
        ipc: Images per class, at least 1.
    """
    known = sorted(PUBLISHED)
    if ipc in PUBLISHED or ipc > known[-1]:
        return PUBLISHED[min(ipc, known[-1])]
    above = bisect.bisect(known, ipc)
    low, high = known[above - 1], known[above]
    share = (ipc - low) / (high - low)
    inner = PUBLISHED[low].inner + share * (PUBLISHED[high].inner - PUBLISHED[low].inner)
    return Loops(ipc, round(inner))
