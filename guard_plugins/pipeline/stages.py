"""The stages of a run, each skipped where an earlier process finished it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from guard_plugins.artifacts.contact_sheet import save_contact_sheet
from guard_plugins.artifacts.distilled import load_distilled, load_pngs, save_distilled
from guard_plugins.artifacts.figures import FIGURES
from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.ledger import Ledger, file_hash, fingerprint
from guard_plugins.artifacts.report import HookReport, Models, Report, Skipped, read_report
from guard_plugins.artifacts.teacher import TeacherCard, load_teacher, read_card, save_teacher, teacher_file
from guard_plugins.config import RunConfig
from guard_plugins.data.base import Data
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.validation import with_validation
from guard_plugins.errors import ConfigError
from guard_plugins.evaluation.assess import Assessed
from guard_plugins.evaluation.metrics import metrics_of
from guard_plugins.evaluation.protocols import find_protocol
from guard_plugins.host import PluginHost
from guard_plugins.labels.relabel import promise_room, relabel
from guard_plugins.labels.store import StoredLabels
from guard_plugins.method import Method
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.console import conclude, foretell, introduce
from guard_plugins.pipeline.evaluation_stage import assess_kinds
from guard_plugins.pipeline.guard import build_hook, hook_report, wrap_guarded
from guard_plugins.pipeline.plugin_calls import HOOK_DOES_NOT_APPLY, calling, promised
from guard_plugins.report.write import publish
from guard_plugins.runtime.checkpoints import Checkpoints
from guard_plugins.runtime.engine import Engine
from guard_plugins.runtime.loop import Keeper
from guard_plugins.runtime.memory import memory_asked_by
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.signals import StopRequest
from guard_plugins.runtime.task import Task
from guard_plugins.training.student import train_students
from guard_plugins.training.student_batches import Lessons, online

#: What the teacher depends on, apart from the method and the hook.
TEACHER_INPUTS = ("dataset", "data_root", "data", "seed", "teacher", "guard", "no_guard", "method", "device")

#: What the images depend on, apart from the teacher's weights and the method's own options.
DISTILL_INPUTS = ("method", "ipc", "seed", "device", "dataset", "data_root", "data", "guard", "no_guard", "teacher")


class Job:
    """One run. :meth:`prepare` finds every mistake that can be found before anything is written or trained.

    Args:
        config: The resolved configuration.
        host: The loaded plugins.

    Raises:
        GuardError: If the method, or anything else the configuration names, is not there.
    """

    def __init__(self, config: RunConfig, host: PluginHost) -> None:
        self.config, self.host = config, host
        method = host.method(config.method)
        self.own_options = {name: getattr(config, name) for name in method.Config.model_fields}
        self.plugin = host.methods.registered(config.method)
        with calling(self.plugin, "its constructor"):
            self.method = method(method.Config.model_validate(self.own_options))
        self.protocol = find_protocol(config.evaluation.protocol, host.attacks, eps=config.evaluation.eps)
        self.hook = build_hook(config.guard) if config.guarded and method.guarded else None
        if self.hook is not None:
            wrap_guarded(self.method, self.hook)

    def prepare(self) -> None:
        """Load the data and refuse what cannot work.

        Raises:
            GuardError: If data, networks, device, teacher file or method do not fit each other.
        """
        self.engine = Engine(self.config.device)
        self.data = self._load()
        require_soft_labels(self.config, self.method)
        quiet = Task(
            self.config, self.data, self.engine, Seeds(self.config.seed), Monitor(quiet=True), self.host.networks,
            Keeper(Checkpoints(None, every=self.config.checkpoint_every)),
        )  # fmt: skip
        student = self.config.student
        quiet.network(student.network, student.activation, stage="student")
        teacher = quiet.network(stage="teacher") if self.method.uses_teacher else None
        with calling(self.plugin, "check"):
            self.method.check(quiet, teacher)
        if teacher is not None and self.config.teacher.path:
            self._reuse(teacher)

    def run(self, folder: RunFolder, stop: StopRequest) -> Report:
        """Do every stage that is not finished, and write the report.

        Raises:
            StoppedError: If a signal asked to stop; ``guard-run --resume`` goes on.
            GuardError: If anything goes wrong.
        """
        self.folder, self.ledger = folder, Ledger(folder.stages)
        self.monitor = Monitor(folder.events)
        self.checkpoints = Checkpoints(folder.checkpoints, every=self.config.checkpoint_every)
        riders = {} if self.hook is None else {"hook": self.hook}
        self.task = Task(
            self.config, self.data, self.engine, Seeds(self.config.seed), self.monitor, self.host.networks,
            Keeper(self.checkpoints, stop, riders),
        )  # fmt: skip
        unguarded = self.config.guarded and self.hook is None
        unhooked = HOOK_DOES_NOT_APPLY.format(name=self.method.name) if unguarded else ""
        introduce(self.task, folder, self.host, unhooked=unhooked)
        if self.config.student.labels == "stored" and not folder.labels.exists():
            self.monitor.say(promise_room(self.task, folder.labels))
        foretell(self.task, folder, Job(self.config, self.host).method)
        inputs = fingerprint("report", self.config.model_dump(mode="json"))
        if self.ledger.why_redo("report", inputs) is None:
            return read_report(folder.report)
        teacher, card = self._teacher() if self.method.uses_teacher else (None, self._card(None))
        distilled = self._distilled(teacher)
        models = self._models(teacher, distilled)
        found = assess_kinds(self.task, models, self.protocol, self.host.attacks, card, figures=folder.path / FIGURES)
        report = self._report(card, found)
        publish(self.folder, report)
        stages = ("teacher", "distill", "relabel")
        earlier = [folder.path / name for stage in stages for name in self.ledger.hashes(stage)]
        self.ledger.finish("report", inputs, [folder.report, *earlier])
        self.checkpoints.forget()
        conclude(self.task, folder, report)
        return report

    def _load(self) -> Data:
        name = self.config.dataset
        dataset = self.host.datasets[name]
        with calling(self.host.datasets.registered(name), "load"):
            return with_validation(dataset().load(self.config.data_request()), self.config.data.validation_per_class)

    def _open(self, stage: str, *inputs: Any) -> tuple[str, bool]:
        """Return the stage's fingerprint and whether it stands finished."""
        self.checkpoints.inputs = fingerprint(stage, *inputs)
        why = self.ledger.why_redo(stage, self.checkpoints.inputs)
        if why:
            self.monitor.say(f"{stage} is done again: {why}")
        return self.checkpoints.inputs, why is None

    def _teacher(self) -> tuple[Normalised, TeacherCard]:
        settings = self.config.model_dump(mode="json", include=set(TEACHER_INPUTS))
        inputs, finished = self._open("teacher", settings, self._mode())
        model = self.task.network(stage="teacher")
        if finished:
            card = load_teacher(self.folder.teacher, model, self._card(None))
        else:
            with self.monitor.stage("teacher"), memory_asked_by("--teacher.batch-size"):
                card = self._reuse(model) if self.config.teacher.path else self._train(model)
                save_teacher(self.folder.teacher, model, card)
                self.ledger.finish("teacher", inputs, [self.folder.teacher])
        return model.eval().requires_grad_(False), card

    def _train(self, model: Normalised) -> TeacherCard:
        with calling(self.plugin, "train_teacher", run=self.folder.path):
            self.method.train_teacher(self.task, model)
        return self._card(hook_report(self.hook))

    def _reuse(self, model: Normalised) -> TeacherCard:
        assert self.config.teacher.path is not None
        path = teacher_file(self.config.teacher.path)
        if not self.config.guarded and read_card(path).guard is not None:
            raise ConfigError(
                f"The teacher {path} was trained under the curvature hook, but --no-guard asks for a plain one",
                do="Leave --no-guard out, or give a plain teacher.",
            )
        return load_teacher(path, model, self._card(None))

    def _mode(self) -> str:
        """Name what of the run's surroundings may change numbers."""
        return str(self.engine.device.type)

    def _card(self, hook: HookReport | None) -> TeacherCard:
        settings, guard = self.config.teacher, None if self.hook is None else self.config.guard.model_dump()
        return TeacherCard(
            network=settings.network, activation=settings.activation, image_shape=self.data.image_shape,
            classes=self.data.classes, training=settings.training, guard=guard, hook=hook,
        )  # fmt: skip

    def _distilled(self, teacher: Normalised | None) -> DistilledSet:
        source = file_hash(self.folder.teacher) if teacher else None
        settings = self.config.model_dump(mode="json", include={*self.own_options, *DISTILL_INPUTS})
        inputs, finished = self._open("distill", source, settings, self._mode())
        if finished:
            return load_distilled(self.folder.distilled)
        with self.monitor.stage("distill"), memory_asked_by("the method's batch size, or --ipc"):
            with calling(self.plugin, "distill", run=self.folder.path):
                distilled = promised(self.plugin, self.method.distill(self.task, teacher), self.task)
            files = save_distilled(self.folder.distilled, distilled, self.data.classes)
            save_contact_sheet(self.folder.contact_sheet, distilled)
            measured = hook_report(self.hook)
            self.ledger.finish(
                "distill", inputs, [*files, self.folder.contact_sheet], hook=measured and measured.model_dump()
            )
        return distilled

    @cached_property
    def _data_inputs(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json", include={"dataset", "data_root", "data", "guard", "no_guard"})

    def _soft_lessons(self, teacher: Normalised, distilled: DistilledSet) -> Callable[[str], Lessons]:
        if self.config.student.labels == "online":
            return online(self.task, distilled, teacher)
        source = [self.ledger.hashes("distill"), file_hash(self.folder.teacher)]
        settings = self.config.model_dump(mode="json", include={"student", "seed", "device"})
        inputs, finished = self._open("relabel", source, settings, self._mode())
        if not finished:
            with self.monitor.stage("relabel"), memory_asked_by("--student.batch-size"):
                files = relabel(self.task, distilled, teacher, self.folder.labels, inputs=inputs)
                self.ledger.finish("relabel", inputs, files)
        stored = StoredLabels(self.folder.labels, distilled.images.to(self.task.device))
        return lambda stage: stored

    def _models(self, teacher: Normalised | None, distilled: DistilledSet) -> dict[str, list[Normalised]]:
        soft = teacher if self.method.labels == "soft" else None
        lessons = self._soft_lessons(soft, distilled) if soft else online(self.task, distilled, None)
        source = self.ledger.hashes("distill")
        settings = self.config.model_dump(mode="json", include={"student", "teacher", "seed", "evaluation", "device"})
        self._open("students", source, self._data_inputs, settings, self._mode())
        with self.monitor.stage("students"), memory_asked_by("--student.batch-size"):
            hard = online(self.task, load_pngs(self.folder.distilled), None)
            return {
                "teacher": [teacher] if teacher else [],
                "student": train_students(self.task, lessons, name="student"),
                "student_hard": train_students(self.task, hard, name="student-hard"),
            }

    def _report(self, card: TeacherCard, found: dict[str, Assessed]) -> Report:
        reports = {name: found[name].report if name in found else None for name in Models.model_fields}
        models, plain = Models.model_validate(reports), card.guard is None and card.training == "plain"
        return Report(
            method=self.config.method, dataset=self.data.name, ipc=self.config.ipc, seed=self.config.seed,
            protocol=self.protocol.name, notes=list(self.protocol.notes), training=card.training, guard=card.guard,
            models=models, metrics=metrics_of(models, plain=plain),
            hook=card.hook or self.ledger.notes("distill").get("hook"), gate={n: one.gate for n, one in found.items()},
            curvature={name: one.summary() for name, one in found.items()}, seconds=self.monitor.total_seconds(),
            saves=self.checkpoints.cost(self.monitor.seconds), skipped=Skipped.of(self.data.skipped),
        )  # fmt: skip


def require_soft_labels(config: RunConfig, method: Method) -> None:
    """Refuse to store the soft labels of a method whose students learn from hard ones.

    Raises:
        ConfigError: If that is asked for.
    """
    if config.student.labels == "stored" and method.labels != "soft":
        raise ConfigError(
            f"The students of {method.name!r} learn from hard labels: there are no soft labels to store "
            "(--student.labels)",
            do="Leave --student.labels out.",
        )
