"""The model of what ``guard-eval`` writes."""

from __future__ import annotations

from pydantic import Field

from guard_plugins.artifacts.parts import Guard, Part, Size
from guard_plugins.artifacts.report import CurvatureReport, GateItem, ModelReport


class Evaluation(Part):
    """The results of ``guard-eval``.

    Attributes:
        subject: What was evaluated: the path of a checkpoint or of a distilled set.
        kind: ``teacher`` of a run, ``checkpoint`` for other weights, ``student`` for networks trained on a set.
        dataset: Data set the test images are from.
        seed: Seed of attacks and students.
        protocol: Evaluation protocol.
        notes: What a reader of the protocol's numbers must know.
        guard: Settings of the hook the checkpoint was trained under, where it says so.
        model: Accuracies.
        gate: Findings of the release gate.
        curvature: Curvature of the loss on test images.
        seconds: Duration; of the last process, where several did it.
    """

    subject: str
    kind: str
    dataset: str
    seed: int
    protocol: str
    notes: list[str] = Field(default_factory=list)
    guard: Guard | None
    model: ModelReport
    gate: list[GateItem]
    curvature: CurvatureReport
    seconds: Size
