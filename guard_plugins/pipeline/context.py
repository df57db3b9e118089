"""What the stages of a run share: what it was prepared with, where its files go, and the results so far."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.ledger import Ledger
from guard_plugins.artifacts.report import Report
from guard_plugins.artifacts.teacher import TeacherCard
from guard_plugins.config import RunConfig
from guard_plugins.config.compose import preset_layer
from guard_plugins.config.schema import Level
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.evaluation.assess import Assessed
from guard_plugins.host.used import foreign_origins
from guard_plugins.labels.store import StoredLabels
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.declared import config_for, fingerprinted
from guard_plugins.pipeline.preparation import Prepared
from guard_plugins.pipeline.teacher_file import card_of
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.keeping.keepsakes import Keepsakes
from guard_plugins.runtime.monitor import Callback, Monitor
from guard_plugins.runtime.sharing.helpers import Helpers
from guard_plugins.runtime.sharing.ranks import Ranks
from guard_plugins.runtime.sharing.shares import Portion, Share
from guard_plugins.runtime.signals import StopRequest
from guard_plugins.runtime.task import Task
from guard_plugins.runtime.teachers import MeanTeacher, TrainedTeacher
from guard_plugins.runtime.tensorboard import tensorboard


class Results:
    """What the stages found so far; each attribute is set by the stage named.

    Attributes:
        teacher: In eval mode with frozen weights; None where the method uses none (teacher).
        teachers: All teachers, the first included (teacher, teachers).
        card: What the teacher says of itself (teacher).
        distilled: The distilled set (distill).
        stored: The stored soft labels, where they are asked for (relabel).
        models: The run's ``teacher``, ``student`` and ``student_hard`` models; a kind may have none (students).
        findings: What the evaluation found, by kind of model (evaluation).
        report: The report (report).
    """

    teacher: Normalised | None = None
    teachers: tuple[TrainedTeacher, ...] = ()
    card: TeacherCard
    distilled: DistilledSet
    stored: StoredLabels | None = None
    models: dict[str, list[Normalised]]
    findings: dict[str, Assessed]
    report: Report

    def __init__(self, card: TeacherCard) -> None:
        self.card = card


@dataclass(frozen=True)
class RunContext:
    """One run at work.

    Attributes:
        prepared: Method, data, hook, protocol and configuration.
        folder: Where the artifacts go.
        task: The task as the method gets it.
        checkpoints: The states of unfinished loops.
        ledger: The record of finished stages.
        results: What the stages found so far.
    """

    prepared: Prepared
    folder: RunFolder
    task: Task
    checkpoints: Checkpoints
    ledger: Ledger
    results: Results
    finished: list[str] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        prepared: Prepared,
        folder: RunFolder,
        stop: StopRequest,
        *,
        level: Level = "normal",
        callbacks: Sequence[Callback] = (),
        share: Share | Portion | None = None,
        ranks: Ranks | None = None,
        helpers: Helpers | None = None,
    ) -> RunContext:
        """Return the context of a run in ``folder``, new or resumed.

        Args:
            prepared: What the run was prepared with.
            folder: Where its artifacts are.
            stop: Whether a signal asked to stop.
            level: How much is said on the terminal.
            callbacks: Called with every event.
            share: The items that this process makes, beside others at work in the folder; all where None. A portion
                that another rank dealt is made without a word.
            ranks: In the first of several processes: all of them.
            helpers: Processes that make items beside this one.

        Raises:
            ArtifactError: If the record of finished stages is damaged.
        """
        checkpoints = Checkpoints(folder.checkpoints, every=prepared.config.checkpoint_every)
        # The hook counts steps, so its state is saved and restored with every loop.
        beside = {} if prepared.hook is None else {"hook": prepared.hook}
        keeper = Keeper(checkpoints, stop, beside, Keepsakes(folder.files, checkpoints), share, ranks, helpers)
        dealt = isinstance(share, Portion)
        if prepared.config.log == "tensorboard" and not dealt:
            callbacks = [*callbacks, tensorboard(folder.path / "tensorboard")]
        monitor = Monitor(folder.events if share is None else None, quiet=dealt, level=level, callbacks=callbacks)
        task = prepared.task(monitor, keeper)
        config = config_for(prepared.config, prepared.teachers[0]) if prepared.teachers else prepared.config
        card = card_of(config, prepared.data, guarded=prepared.hook is not None)
        return cls(prepared, folder, task, checkpoints, Ledger(folder.stages), Results(card))

    @property
    def config(self) -> RunConfig:
        """The resolved configuration."""
        return self.prepared.config

    @property
    def device_type(self) -> str:
        """Kind of the device: the one thing beside settings and files that may change numbers."""
        return str(self.task.device.type)

    def settings(self, *names: str) -> dict[str, Any]:
        """Return these parts of the configuration, as a fingerprint takes them."""
        return fingerprinted(self.config, names)

    def origins(self, kinds: Collection[str]) -> list[str]:
        """Return the plugins that bring the run's parts of these kinds, with their versions."""
        return foreign_origins(self.prepared.parts, kinds)

    def other_teachers(self) -> list[dict[str, str]]:
        """Return the hashes of the teachers' files beside the first one's weights; nothing where there are none."""
        hashes = {**self.ledger.hashes("teacher"), **self.ledger.hashes("teachers")}
        hashes.pop(self.folder.teacher.name, None)
        return [hashes] if hashes else []

    @property
    def labels(self) -> Literal["soft", "hard", "own", "mean"]:
        """What the students on soft labels learn from: what the method says, or ``own`` where the user asks for it."""
        return "own" if self.config.student.labels == "own" else self.prepared.method.labels

    def labeller(self) -> nn.Module | None:
        """Return who gives the students soft labels: the teacher, or the mean of all; None for other labels."""
        if self.labels == "mean":
            return MeanTeacher([teacher.model for teacher in self.results.teachers]).eval()
        return self.results.teacher if self.labels == "soft" else None

    def given_of_students(self) -> list[str]:
        """Return which of the students' settings that a set may bring are the user's: not those of the preset.

        By value, since a resumed run knows no more than its ``config.yaml``.
        """
        named = {"dataset": self.config.dataset, "preset": self.config.preset}
        preset = preset_layer(type(self.prepared.method), named).values.get("student", {})
        student = self.config.student
        return [name for name in ("lr", "epochs") if getattr(student, name) not in (None, preset.get(name))]

    def earlier_files(self) -> list[Path]:
        """Return the files of the stages that are finished."""
        return [self.folder.path / name for stage in self.finished for name in self.ledger.hashes(stage)]
