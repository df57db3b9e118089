"""What ranks tell each other, as JSON: items to make, and errors."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from guard_plugins import errors
from guard_plugins.errors import GuardError
from guard_plugins.runtime.sharing.shares import Portion
from guard_plugins.runtime.signals import StoppedError


@dataclass(frozen=True)
class Order:
    """Items of a stage, dealt over all ranks.

    Attributes:
        stage: Name of the stage.
        folder: The run's folder.
        first: Name of the first of all items, by which they are known.
        missing: Numbers of the items to make.
        inputs: Of work that all ranks do together, in place of items: the fingerprint of what it depends on.
    """

    stage: str
    folder: str
    first: str
    missing: Sequence[int]
    inputs: str = ""

    def numbers(self, rank: int, size: int) -> Sequence[int]:
        """Return the numbers of the items of one of ``size`` ranks."""
        return self.missing[rank::size]

    def portion(self, rank: int, size: int) -> Portion:
        """Return the same as a share of a stage's items."""
        return Portion(self.first, frozenset(self.numbers(rank, size)))

    def as_text(self) -> str:
        """Return the order as JSON."""
        return json.dumps({**asdict(self), "missing": list(self.missing)})

    @classmethod
    def of(cls, text: bytes) -> Order:
        """Return the order that JSON holds."""
        return cls(**json.loads(text))


def told(error: BaseException, who: str) -> str:
    """Return an error as JSON.

    Args:
        error: The error; of one that is no GuardError, the text and the traceback are told.
        who: The process in which it happened.
    """
    if isinstance(error, StoppedError):
        return json.dumps({"kind": "StoppedError", "number": error.number, "do": error.how})
    if isinstance(error, GuardError):
        seen = f"{error.seen}; on {who}" if error.seen else f"on {who}"
        return json.dumps({"kind": type(error).__name__, "what": error.what, "seen": seen, "do": error.do})
    what = f"A process of the run failed: {type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error)).strip()
    return json.dumps({"kind": "GuardError", "what": what, "seen": f"on {who}\n{trace}", "do": ""})


def heard(text: bytes) -> GuardError:
    """Return the error that :func:`told` was given; of a class that is not the project's, a GuardError."""
    values = json.loads(text)
    name = values.pop("kind")
    if name == "StoppedError":
        return StoppedError(values["number"], do=values["do"])
    kind = getattr(errors, name, GuardError)
    return kind(values["what"], seen=values["seen"], do=values["do"])
