"""What guard-eval can be asked, one field for each option; torch is not imported here."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, field_validator
from pydantic_settings import CliPositionalArg, CliToggleFlag

from guard_plugins.config.data import DataConfig
from guard_plugins.config.schema import EvaluationConfig, RunConfig
from guard_plugins.config.section import Activation, ForeignWeights, Section
from guard_plugins.config.student import StudentConfig


def _as_guard_run(name: str) -> Any:
    """Return the field ``name`` of a run's configuration: the same option with the same help and default."""
    return copy(RunConfig.model_fields[name])


class GivenWeights(ForeignWeights):
    """Weights from outside a run: the checkpoint, or the teacher of the students."""

    path: Path | None = Field(
        None, description="learn soft labels from the teacher of this run, or from the weights in this file "
        "(short: --teacher PATH)",
    )  # fmt: skip
    network: str | None = Field(None, description="architecture of the weights, where their file does not say it")
    activation: Activation | None = Field(None, description="its activation function (default: relu)")


class Students(StudentConfig):
    """The students trained on the distilled set."""

    network: str | None = Field(None, description="architecture (default: the one of the data set's preset)")
    activation: Activation | None = Field(None, description="activation function (default: that of the preset)")
    count: int = Field(1, ge=1, description="students to train, each from its own seed; the table shows mean and sd")
    labels: Literal["hard", "online", "stored", "own"] | None = Field(  # type: ignore[assignment]
        None, description="hard: class labels. online: the teacher computes soft labels at every step. stored: the "
        "soft labels that came with the set; those of a run also set views, batches and epochs. own: those that the "
        "method returned with its images (default: online with a teacher, else hard)",
    )  # fmt: skip


class EvaluationRequest(Section):
    """What to evaluate, and how.

    Options that guard-run has too have the same names there.
    """

    checkpoint: CliPositionalArg[Path | None] = Field(
        None, description="a run, any .safetensors (such as a run's teacher), a state dict (.pt, .pth), or published "
        "weights by name (torchvision:resnet18, timm:resnet18.a1_in1k)",
    )  # fmt: skip
    distilled: Path | None = Field(
        None, description="a run, or distilled images: our folder, or files of SRe2L, DC, MTT, DD-Ranking and others"
    )
    dataset: str = Field("digits", description="where the test images are from")
    preset: str | None = Field(None, description="named settings, as guard-run's (default: the data set's own)")
    data_root: Path | None = _as_guard_run("data_root")
    download: CliToggleFlag[bool] = Field(
        False, description="allow the data set and published weights to be downloaded"
    )
    seed: NonNegativeInt = Field(0, description="seed of attacks and students")
    device: Literal["auto", "cpu", "cuda", "mps"] = _as_guard_run("device")
    output: Path | None = Field(
        None, description="write the results to FILE.json or FILE.html too; the same command then goes on where it was "
        "stopped or killed, its state being in FILE.unfinished/ until it is done",
    )  # fmt: skip
    teacher: GivenWeights = Field(GivenWeights(), description="weights: the checkpoint's, or the students' teacher")
    student: Students = Field(Students(), description="students of a distilled set")
    data: DataConfig = Field(DataConfig(), description="reading the images")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="the attacks")

    @field_validator("checkpoint", "distilled", "data_root", "output", mode="after")
    @classmethod
    def _expand(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path is not None else None

    def settings(self) -> dict[str, Any]:
        """Return what was given of a run's configuration, nested as there."""
        given: dict[str, Any] = self.model_dump(exclude_unset=True, exclude={"checkpoint", "distilled", "output"})
        student = {name: value for name, value in given.pop("student", {}).items() if name != "labels"}
        given.pop("teacher", None)
        return {**given, **({"student": student} if student else {})}
