"""How much work a stage is, in numbers, so that nothing of its size has to be built to plan it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Items of one kind.

    Attributes:
        kind: What they are; the name of their loops before the first ``/``, such as ``recover``.
        count: Number of items; none depends on another, so several processes may make some each.
        images: Images of one step.
        steps: Steps of one item.
    """

    kind: str
    count: int
    images: int
    steps: int

    @property
    def volume(self) -> int:
        """Images times steps of all items."""
        return self.count * self.images * self.steps


def volume(works: Iterable[Work]) -> int:
    """Return images times steps of all works together."""
    return sum(work.volume for work in works)
