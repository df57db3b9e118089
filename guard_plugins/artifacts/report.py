"""The model of ``report.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, NonNegativeInt

from guard_plugins.artifacts.parts import Count, Guard, HookReport, Part, Share, Size, Validation
from guard_plugins.artifacts.reading import read_model

NAMED: Final = 5
"""Skipped images that are named; the others are counted."""


class RobustAccuracy(Part):
    """Accuracy under one attack.

    Attributes:
        attack: Label of the attack, such as ``pgd-20``.
        norm: Norm of the radius.
        eps: Radius in pixel units.
        accuracy: Fraction of the images classified correctly before and after the attack; mean over models.
        sd: Standard deviation over models; None for one.
        images: Number of test images.
    """

    attack: str
    norm: str
    eps: Size
    accuracy: Share
    sd: Size | None = None
    images: Count


class ModelReport(Part):
    """Accuracies of one kind of model.

    Attributes:
        clean: Fraction of the test images classified correctly; mean over models.
        sd: Standard deviation over models; None for one.
        models: Number of models, each from its own seed.
        robust: Accuracies under attack.
    """

    clean: Share
    sd: Size | None = None
    models: Count = 1
    robust: list[RobustAccuracy]

    def at(self, eps: float, attack: str | None = None) -> float:
        """Return the accuracy at a radius (of the first attack measured there, or of the one named).

        Raises:
            KeyError: If there is no such measurement.
        """
        for entry in self.robust:
            if abs(entry.eps - eps) < 1e-9 and attack in (None, entry.attack):
                return entry.accuracy
        raise KeyError(f"no attack at eps = {eps}")

    def radii(self, norm: str = "Linf") -> list[float]:
        """Return the radii above 0 that were measured in a norm, in pixel units, ascending."""
        return sorted({entry.eps for entry in self.robust if entry.norm == norm and entry.eps})


Verdict = Literal["passed", "failed", "warning", "not run"]


class GateItem(Part):
    """What one check of the release gate found.

    Attributes:
        name: The check.
        verdict: ``passed``, ``failed`` (the numbers are not to be quoted), ``warning`` or ``not run``.
        figure: The numbers in a sentence; why, where it was not run.
        value: The number the verdict rests on; None where there is none.
        suggests: What a failure or warning means and what to do about it.
        finding: What a failure found, as a title; empty for others.
    """

    name: str
    verdict: Verdict
    figure: str
    value: float | None = None
    suggests: str = ""
    finding: str = ""

    @property
    def title(self) -> str:
        """What was found, or the name of the check."""
        return self.finding or self.name


class CurvatureReport(Part):
    """Medians over test images of the loss's slope and curvature around them, in pixel units.

    Attributes:
        h: L2 length of the step along the gradient that curvature is measured with: the training's.
        images: Number of test images.
        gradient_norm: Median of the input gradient's L2 norm.
        along_gradient: Median finite-difference curvature along the gradient.
        eigenvalue: Median largest absolute eigenvalue of the loss's Hessian.
    """

    h: Size
    images: Count
    gradient_norm: float
    along_gradient: float
    eigenvalue: float


class Drop(Part):
    """Share of the clean accuracy that an attack takes; None at clean 0."""

    attack: str
    norm: str
    eps: Size
    value: float | None


class Ratios(Part):
    """RR and I-RR over the ``attacks`` run at one L-infinity radius; None where they are not defined."""

    eps: Size
    attacks: Count
    rr: float | None
    irr: float | None


class Metrics(Part):
    """Summary metrics of a run's students, as far as the run alone allows them.

    Attributes:
        drops: Drop rate under every attack.
        ratios: RR and I-RR at every radius at least two attacks were run at.
        hlr: Hard label recovery, where the teacher was trained plainly; None elsewhere.
    """

    drops: list[Drop]
    ratios: list[Ratios]
    hlr: float | None


class Saves(Part):
    """What it cost to keep the run resumable, in the process that finished it.

    Attributes:
        count: Number of saves of a loop's state.
        seconds: Time they took.
        share: The same as a fraction of the time of all stages.
    """

    count: NonNegativeInt
    seconds: Size
    share: Size

    def sentence(self) -> str:
        """Return the cost in words."""
        return f"checkpoints: {self.count} saves took {self.seconds:.1f} s, {100 * self.share:.2f} % of the run"


class Skipped(Part):
    """Images of the data set that could not be read and were left out, as ``--data.skip-corrupt`` asks.

    Attributes:
        count: Number of images.
        first: Paths of the first few.
    """

    count: Count
    first: list[str]

    @classmethod
    def of(cls, paths: Sequence[str]) -> Skipped | None:
        """Return what to report about these files; None where there are none."""
        return cls(count=len(paths), first=list(paths[:NAMED])) if paths else None

    def sentence(self) -> str:
        """Return the loss in words."""
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return f"skipped {self.count} images that cannot be read: {', '.join(self.first)}{more}"


class Models(Part):
    """The models of a run; ``teacher`` is None where the method uses none."""

    teacher: ModelReport | None
    student: ModelReport
    student_hard: ModelReport


class Report(Part):
    """The results of a run.

    Attributes:
        method: Distillation method.
        dataset: Data set.
        ipc: Images per class.
        seed: Seed of the run.
        protocol: Evaluation protocol.
        training: Objective of the teacher: ``plain``, or a rival of the hook.
        guard: Settings of the hook the teacher was trained under; None without it.
        models: Accuracies. ``student`` learned from the method's labels, ``student_hard`` from the stored PNGs alone.
        hook: What the hook measured, or None without it.
        seconds: Duration of every stage.
        gate: Findings of the release gate for the first model of each kind, by kind (``student``).
        curvature: Curvature of the loss on test images for the first model of each kind.
        notes: What a reader of the protocol's numbers must know.
        metrics: Summary metrics of the students.
        saves: What checkpoints cost.
        skipped: Images of the data set that were left out; None where there are none.
        reported: Numbers that the method itself reported, by name.
        learned_from: What ``student`` learned from, as a method's ``labels``; None in reports of older versions.
        validation: Students of the unfinished set, where the run validated (``--distill.validate-every``).
    """

    method: str
    dataset: str
    ipc: Count
    seed: NonNegativeInt
    protocol: str
    training: str = "plain"
    guard: Guard | None
    models: Models
    hook: HookReport | None
    seconds: dict[str, Size]
    gate: dict[str, list[GateItem]] = Field(default_factory=dict)
    curvature: dict[str, CurvatureReport] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    metrics: Metrics | None = None
    saves: Saves | None = None
    skipped: Skipped | None = None
    reported: dict[str, float] = Field(default_factory=dict)
    learned_from: Literal["soft", "hard", "own", "mean"] | None = None
    validation: list[Validation] = Field(default_factory=list)


def read_report(path: Path) -> Report:
    """Return the results in a ``report.json``.

    Raises:
        DamagedError: If the file is damaged, or a number in it cannot be a run's.
    """
    return read_model(path, Report, do="Leave this run out, or finish it again with guard-run --resume.")
