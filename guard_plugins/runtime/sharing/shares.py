"""A share of a run's items, for processes that know nothing of each other (arrays of jobs)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from guard_plugins.artifacts.formatting import counted
from guard_plugins.errors import ConfigError, GuardError

NAMED: Final = 5
"""Items that a message names; it counts the others."""


@dataclass(frozen=True)
class Share:
    """Every ``of``-th item, from number ``number``.

    Attributes:
        number: Number of the share, from 0.
        of: Number of shares.
    """

    takes_over: ClassVar[bool] = True
    """Whether a process that is done makes items that others left behind."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Return the share that ``i/n`` means.

        Raises:
            ConfigError: If it means none.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        share = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not share.number < share.of:
            raise ConfigError(
                "--shard takes i/n: the number of this share, from 0 to n - 1, and the number of shares", seen=text,
                do="For the third of eight jobs, give --shard 2/8.",
            )  # fmt: skip
        return share

    def own(self, missing: Sequence[int]) -> Sequence[int]:
        """Return which of the missing items belong to the share."""
        return [item for item in missing if item % self.of == self.number]

    def covers(self, names: Sequence[str]) -> bool:
        """Return whether these are the items that are shared."""
        return True


@dataclass(frozen=True)
class Portion:
    """What the first of several ranks dealt to this one.

    Attributes:
        first: Name of the first of all items, by which they are known; empty for whatever items there are.
        numbers: Numbers of the items to make; None for all.
        backwards: Whether the last item is made first, since another process begins with the first.
    """

    takes_over: ClassVar[bool] = False

    first: str
    numbers: frozenset[int] | None
    backwards: bool = False

    def own(self, missing: Sequence[int]) -> Sequence[int]:
        """Return which of the missing items were dealt to this process, in the order in which it makes them."""
        own = [item for item in missing if self.numbers is None or item in self.numbers]
        return own[::-1] if self.backwards else own

    def covers(self, names: Sequence[str]) -> bool:
        """Return whether these are the items that were dealt."""
        return self.first in ("", names[0])


class ShareDone(GuardError):  # noqa: N818 - no error: it ends a process whose work is done
    """A process has made what it can of its share.

    Args:
        made: Number of items that it made.
        missing: Names of the items of all shares that are not finished yet.
    """

    exit_code: ClassVar[int] = 0

    def __init__(self, made: int, missing: Sequence[str]) -> None:
        self.made, self.missing = made, tuple(missing)
        left = f"not finished yet: {listed(missing)}" if missing else "all items of the stage are finished"
        super().__init__(f"{counted(made, 'item')} made; {left}")


def listed(names: Sequence[str]) -> str:
    """Return how many items there are, and the first of them by name."""
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} ({', '.join(names[:NAMED])}{more})"
