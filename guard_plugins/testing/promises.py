"""What every method promises, and the error that says which promise is broken."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

from guard_plugins.errors import GuardError, HookError
from guard_plugins.runtime.signals import StoppedError

PROMISES: Final[Mapping[str, str]] = {
    "declaration": "the class says what the method is: `name`, `summary`, `Config`, `guarded`, `labels` fit each other",
    "options": "every option has a default and a description, and comes back unchanged from flags and from YAML",
    "guarded": "every function named in `guarded` is called, and its losses are really regularised by the hook",
    "set": "`distill` returns `task.ipc` images of every class in [0, 1], with labels",
    "seed": "the same seed gives the same set, whatever the state of the global random streams",
    "progress": "`distill` reports progress through `task.steps` or `task.monitor.track`",
    "resume": "a teacher's training and a distillation that are stopped half-way go on to the same weights and set",
    "preview": "with `previews`, a loop offers its images so far as `distill` would return them; looking changes none",
    "state": "teacher, data, global random streams and PyTorch's settings are left as they were found",
    "errors": "whatever goes wrong is one of the errors of guard_plugins.errors",
    "view": "an augmentation draws first and applies afterwards: the same numbers make the same images, one by one",
}
"""The promises of a method by short name; a contract that fails names one of them."""


class BrokenPromiseError(GuardError, AssertionError):
    """A method does not keep one of its promises.

    Attributes:
        promise: Short name of the promise, a key of :data:`PROMISES`.

    Args:
        promise: The same.
        seen: What the contract saw.
        do: What the author can do about it.
    """

    def __init__(self, promise: str, seen: str, do: str = "") -> None:
        self.promise = promise
        super().__init__(f"Broken promise ({promise}): {PROMISES[promise]}", seen=seen, do=do)


@contextlib.contextmanager
def expecting(doing: str, *, refusal_allowed: bool = False) -> Iterator[None]:
    """Name the promise that an exception of the method breaks.

    Args:
        doing: What the method is asked to do, for the message.
        refusal_allowed: Whether the project's own errors are a legitimate answer, which ends the block.

    Raises:
        BrokenPromiseError: If the block raises.
    """
    try:
        yield
    except (BrokenPromiseError, StoppedError):
        raise
    except HookError as error:
        raise BrokenPromiseError(
            "guarded",
            f"in {doing} the hook said: {error}",
            "Name in `guarded` the functions that differentiate a loss on real data, and only those.",
        ) from error
    except GuardError as error:
        if not refusal_allowed:
            raise BrokenPromiseError(
                "set",
                f"{doing} raised {type(error).__name__} on an ordinary small task: {error}",
                "Mend it, or pass `settings` that fit 8x8 grey digits.",
            ) from error
    except Exception as error:  # the very thing that is looked for
        raise BrokenPromiseError(
            "errors",
            f"{doing} raised {type(error).__name__}: {error}",
            "Mend it; if the user can cause it, raise ConfigError, DataError or TrainingError in its place.",
        ) from error
