"""The finished items of an evaluation, kept with the run's checkpoints so that a resumed one does not repeat them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from guard_plugins.loop import Keeper

T = TypeVar("T")


class WorkList(Generic[T]):
    """A list of results that grows item by item.

    Attributes:
        results: What is finished, from an earlier process or this one.

    Args:
        keeper: Where the list is saved.
        name: Name of the evaluation.
        read: Makes a result of its saved values.
        write: Returns a result's values: tensors, and what JSON can hold.
    """

    def __init__(
        self, keeper: Keeper, name: str, *, read: Callable[[dict[str, Any]], T], write: Callable[[T], Mapping[str, Any]]
    ) -> None:
        self._checkpoints, self._name, self._write = keeper.checkpoints, name, write
        saved = self._checkpoints.load(name)
        self.results: list[T] = [read(entry) for entry in saved[1]["results"]] if saved else []

    def add(self, result: T, *, last: bool) -> None:
        """Append a result; saved at the cadence of the run's checkpoints, and with the ``last`` one.

        Raises:
            ArtifactError: If it cannot be written.
        """
        self.results.append(result)
        if last or self._checkpoints.due:
            self._checkpoints.save(self._name, len(self.results), self._written)

    def _written(self) -> dict[str, Any]:
        return {"results": [dict(self._write(entry)) for entry in self.results]}
