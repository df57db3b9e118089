"""The numbers behind the report's pictures."""

from __future__ import annotations

from typing import Any

from guard_plugins.artifacts.figures import FIGURES, save_figures
from guard_plugins.evaluation.figures import collect
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.stage import Stage
from guard_plugins.pipeline.stages.evaluation import probe_length


class FiguresStage(Stage):
    """Leaves ``figures.safetensors``: adversarial examples and slices through the loss."""

    name = "figures"
    plugins = ("methods", "datasets", "networks", "recipes", "augmentations", "attacks")

    def inputs(self, run: RunContext) -> list[Any]:
        """Return nothing: the pictures are drawn anew whenever the report is."""
        return []

    def do(self, run: RunContext) -> None:
        """Draw from the first model of each kind but the hard-label students."""
        findings = run.results.findings
        shown = {kind: run.results.models[kind][0] for kind in findings if kind != "student_hard"}
        curvatures = {kind: findings[kind].curvature for kind in shown}
        radii = findings["student"].report.radii()
        figures = collect(run.task, shown, curvatures, radii=radii, h=probe_length(run))
        save_figures(run.folder.path / FIGURES, figures)
