"""One item of the release gate: a verdict, the figure behind it and what a bad one suggests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["passed", "failed", "warning", "not run"]


@dataclass(frozen=True)
class Item:
    """What one check of the gate found.

    Attributes:
        name: The check, in a few words.
        verdict: ``failed`` makes the evaluation untrustworthy; ``warning`` is for the reader to judge.
        figure: The numbers, in a sentence; why, for a check that was not run.
        value: The number the verdict rests on, for machines; None where there is none.
        suggests: What a failure or warning means and what to do; empty for the others.
    """

    name: str
    verdict: Verdict
    figure: str
    value: float | None = None
    suggests: str = ""


def judged(
    name: str, *, good: bool, figure: str, suggests: str, value: float | None = None, otherwise: Verdict = "failed"
) -> Item:
    """Return a passed item where ``good``, and one with ``otherwise`` as its verdict where not."""
    if good:
        return Item(name, "passed", figure, value)
    return Item(name, otherwise, figure, value, suggests)


def not_run(name: str, why: str) -> Item:
    """Return an item for a check that could not be made."""
    return Item(name, "not run", why)


def points(share: float) -> str:
    """Return a share as percentage points with one decimal, such as ``12.5``."""
    return f"{100 * share:.1f}"


def over_255(eps: float) -> str:
    """Return a radius the way the field writes it: ``8/255``."""
    return f"{255 * eps:.4g}/255"
