"""The stages of a run, one per file, in the order in which they are done."""

from __future__ import annotations

from typing import Final

from guard_plugins.pipeline.stage import Stage
from guard_plugins.pipeline.stages.distill import DistillStage
from guard_plugins.pipeline.stages.evaluation import EvaluationStage
from guard_plugins.pipeline.stages.figures import FiguresStage
from guard_plugins.pipeline.stages.relabel import RelabelStage
from guard_plugins.pipeline.stages.report import ReportStage
from guard_plugins.pipeline.stages.students import StudentsStage
from guard_plugins.pipeline.stages.teacher import TeacherStage
from guard_plugins.pipeline.stages.teachers import TeachersStage

STAGES: Final[tuple[Stage, ...]] = (
    TeacherStage(),
    TeachersStage(),
    DistillStage(),
    RelabelStage(),
    StudentsStage(),
    EvaluationStage(),
    FiguresStage(),
    ReportStage(),
)
