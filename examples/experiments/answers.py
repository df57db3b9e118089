"""What an experiment says, in sentences whose numbers come from the records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jinja2

from examples.experiments import cost

if TYPE_CHECKING:
    from examples.experiments.plan import Experiment
    from examples.experiments.results import Results

NOTHING: Final = "–"
EVIDENCE: Final = 2
"""Sentences that an answer cannot do without."""


class MissingRecordsError(Exception):
    """A number has no record yet."""


@dataclass(frozen=True)
class Numbers:
    """The numbers a sentence may ask for; each is of the experiment itself where no other is named.

    Attributes:
        results: All records.
        name: Name of the experiment.
    """

    results: Results
    name: str

    def at(
        self,
        row: str,
        against: str,
        kind: str = "student",
        radii: tuple[float, ...] = (0, 1, 4),
        *,
        of: str | None = None,
        other: str | None = None,
    ) -> str:
        """Return the differences of two rows, seed by seed, such as "+2.0 clean, +3.1 at 1/255".

        Args:
            row: The row.
            against: The row it is compared with.
            kind: Which model: teacher, student or student_hard.
            radii: Radii over 255; 0 is clean.
            of: Experiment of the row.
            other: Experiment of the other row; that of the row if None.

        Raises:
            MissingRecordsError: If a number has no record.
        """
        of = of or self.name
        found = [self.results.gain(of, row, against, kind, eps, other=other or of) for eps in radii]
        return ", ".join(f"{_there(gain)} {_where(eps)}" for gain, eps in zip(found, radii, strict=True))

    def level(self, row: str, radii: tuple[float, ...] = (0, 1, 4), *, of: str | None = None) -> str:
        """Return accuracies of a row's students, such as "45.0 clean, 39.3 at 1/255"; arguments as for :meth:`at`."""
        found = [self.results.mean(of or self.name, row, eps=eps) for eps in radii]
        return ", ".join(f"{_there(mean)} {_where(eps)}" for mean, eps in zip(found, radii, strict=True))

    def mean(self, row: str, kind: str = "student", eps: float = 0, *, of: str | None = None) -> str:
        """Return one accuracy of a row in percent."""
        return _there(self.results.mean(of or self.name, row, kind, eps))

    def of_seed(self, row: str, seed: int, eps: float, *, of: str | None = None) -> str:
        """Return the accuracy of one seed's student in percent."""
        return _there(self.results.of_seed(of or self.name, row, seed, eps))

    def seeds(self, *rows: str, of: str | None = None) -> str:
        """Return "5 seeds": how many the rows share."""
        count = self.results.seeds(of or self.name, *rows)
        if not count:
            raise MissingRecordsError
        return f"{count} seed{'s' if count > 1 else ''}"


def answer(results: Results, experiment: Experiment) -> list[str]:
    """Return the sentences of an experiment's answer; those with a number that has no record are left out.

    The first says what follows and the second has the numbers for it: without those there is no answer.

    Args:
        results: All records.
        experiment: The experiment.
    """
    numbers = Numbers(results, experiment.name)
    known: dict[str, Callable[..., Any]] = {
        "at": numbers.at,
        "level": numbers.level,
        "mean": numbers.mean,
        "of_seed": numbers.of_seed,
        "seeds": numbers.seeds,
        "cost": lambda way: f"{cost.ratios()[way]:.2f}",
        "gpu_cost": lambda way: f"{cost.gpu_ratios()[way]:.2f}",
    }
    said = []
    for number, sentence in enumerate(experiment.answer):
        try:
            said.append(jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(sentence).render(known))
        except MissingRecordsError:
            if number < EVIDENCE:
                return []
    return said


def _there(number: str) -> str:
    if number == NOTHING:
        raise MissingRecordsError
    return number


def _where(eps: float) -> str:
    return f"at {eps:g}/255" if eps else "clean"
