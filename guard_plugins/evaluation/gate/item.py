"""Makes the items of the release gate."""

from __future__ import annotations

from guard_plugins.artifacts.report import GateItem, Verdict


def judged(
    name: str, *, good: bool, figure: str, suggests: str, value: float | None = None, otherwise: Verdict = "failed",
    finding: str = "",
) -> GateItem:  # fmt: skip
    """Return an item that passed, or one with another verdict.

    Args:
        name: The check.
        good: Whether it passed.
        figure: The numbers in a sentence.
        suggests: What it means if it did not pass, and what to do then.
        value: The number the verdict rests on.
        otherwise: The verdict if it did not pass.
        finding: What was found, as a title with radius and counts, if it did not pass.
    """
    if good:
        return GateItem(name=name, verdict="passed", figure=figure, value=value)
    return GateItem(name=name, verdict=otherwise, figure=figure, value=value, suggests=suggests, finding=finding)


def not_run(name: str, why: str) -> GateItem:
    """Return an item for a check that could not be made."""
    return GateItem(name=name, verdict="not run", figure=why)
