"""The finished items of an evaluation, kept with the run's checkpoints so that a resumed one does not repeat them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from guard_plugins.runtime.keeping.keeper import Keeper

T = TypeVar("T")


class WorkList(Generic[T]):
    """A list of results that grows item by item.

    Attributes:
        results: What is finished, from an earlier process or this one.
        underway: State of the item an earlier process was at, as given to :meth:`keep`, or None.

    Args:
        keeper: Where the list is saved.
        name: Name of the evaluation.
        read: Makes a result of its saved values.
        write: Returns a result's values: tensors, and what JSON can hold.

    Raises:
        DamagedError: If what was saved is damaged or does not fit.
    """

    def __init__(
        self, keeper: Keeper, name: str, *, read: Callable[[dict[str, Any]], T], write: Callable[[T], Mapping[str, Any]]
    ) -> None:
        self._keeper, self._name, self._write = keeper, name, write
        self.results: list[T] = []
        self.underway: Mapping[str, Any] | None = None
        saved = keeper.checkpoints.load(name)
        if saved is not None:
            try:
                self.results = [read(entry) for entry in saved[1]["results"]]
                self.underway = None if saved[1]["underway"] is None else dict(saved[1]["underway"])
            except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
                raise keeper.checkpoints.unusable(name, f"{type(error).__name__}: {error}".splitlines()[0]) from error

    def keep(self, underway: Mapping[str, Any]) -> None:
        """Save the state of the item at work, at the cadence of the run's checkpoints and when the run is to stop.

        Args:
            underway: Tensors, and what JSON can hold.

        Raises:
            ArtifactError: If it cannot be written.
        """
        self.underway = underway
        if self._keeper.checkpoints.due or self._keeper.stop.asked:
            self._save()

    def add(self, result: T, *, last: bool) -> None:
        """Append a result; saved at the cadence of the run's checkpoints, with the ``last`` one, and before a stop.

        Raises:
            ArtifactError: If it cannot be written.
        """
        self.results.append(result)
        self.underway = None
        if last or self._keeper.checkpoints.due or self._keeper.stop.asked:
            self._save()

    def _save(self) -> None:
        self._keeper.checkpoints.save(self._name, len(self.results), self._written)

    def _written(self) -> dict[str, Any]:
        underway = None if self.underway is None else dict(self.underway)
        return {"results": [dict(self._write(entry)) for entry in self.results], "underway": underway}
