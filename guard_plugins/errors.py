"""The family of errors the project raises: each says what happened, what was seen, and what to do."""

from __future__ import annotations

from typing import ClassVar


class GuardError(Exception):
    """Base of every error meant for the person at the keyboard.

    Args:
        what: One sentence on what happened.
        seen: The facts that led to it (values, paths, counts); may be empty.
        do: What the reader can do about it; may be empty.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, seen: str = "", do: str = "") -> None:
        self.what, self.seen, self.do = what, seen, do
        super().__init__(what, seen, do)

    def __str__(self) -> str:
        parts = [self.what]
        if self.seen:
            parts.append(f"  seen: {self.seen}")
        if self.do:
            parts.append(f"  do:   {self.do}")
        return "\n".join(parts)


class ConfigError(GuardError):
    """A bad option, configuration file or combination of them (exit code 2)."""

    exit_code = 2


class DataError(GuardError):
    """A data set that is missing, malformed or does not fit the request (exit code 2)."""

    exit_code = 2


class PluginError(GuardError):
    """A plugin that cannot be loaded, registers something wrong or clashes with another."""


class HookError(GuardError):
    """A training loop the curvature hook did not reach or cannot regularise faithfully."""


class ArtifactError(GuardError):
    """A file of a run that cannot be written, read or trusted."""


class DamagedError(ArtifactError):
    """A file that was given or read back and is damaged, or is not what its name says (exit code 2)."""

    exit_code = 2


class LostError(GuardError):
    """Another process of the run is gone; the run can be resumed (exit code 75, as for temporary failures)."""

    exit_code = 75


class TrainingError(GuardError):
    """Numbers that went wrong while training, distilling or attacking (NaN, divergence)."""
