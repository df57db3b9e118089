"""The known word a person probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known word most like ``word``, or None where none is near; case, hyphens and underscores do not count.

    A word that is whole but stops short, such as ``batch`` for ``batch-size``, is near to the shortest that goes on.

    Args:
        word: What was typed.
        known: What could have been meant.
        cutoff: How alike the two must be, from 0 to 1.
    """
    plain = {_plain(name): name for name in known}
    begun = [name for name in plain.values() if re.match(rf"{re.escape(word.lower())}[-_]", name.lower())]
    if begun and _plain(word) not in plain:
        return min(begun, key=len)
    near = difflib.get_close_matches(_plain(word), plain, n=1, cutoff=cutoff)
    return plain[near[0]] if near else None


def _plain(word: str) -> str:
    return re.sub(r"[-_ ]", "", word).lower()
