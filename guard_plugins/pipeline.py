"""The whole job: data, teacher, distillation, students, attacks, report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from guard_plugins.artifacts.atomic import write_text
from guard_plugins.artifacts.distilled import load_pngs, save_distilled
from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.manifest import write_manifest
from guard_plugins.artifacts.teacher import TeacherCard, load_teacher, save_teacher
from guard_plugins.config import RunConfig, configure
from guard_plugins.curvature import CurvatureHook
from guard_plugins.data.base import Data, DataRequest
from guard_plugins.distilled import DistilledSet
from guard_plugins.engine import Engine
from guard_plugins.evaluation.measure import measure
from guard_plugins.evaluation.protocols import find_protocol
from guard_plugins.guarding import build_hook, hook_report, wrap_guarded
from guard_plugins.host import PluginHost
from guard_plugins.method import Method
from guard_plugins.monitor import Monitor
from guard_plugins.networks.normalised import Normalised
from guard_plugins.report.contact_sheet import save_contact_sheet
from guard_plugins.report.markdown import markdown
from guard_plugins.report.model import HookReport, ModelReport, Models, Report
from guard_plugins.seeds import Seeds, preserved_streams
from guard_plugins.task import Task
from guard_plugins.training.student import train_student


def run(config: RunConfig | Mapping[str, Any]) -> Report:
    """Do the whole job and leave its artifacts in ``config.output``.

    The caller's random streams are left as found.

    Args:
        config: From :func:`guard_plugins.configure`, or a mapping of its arguments (``{"method": "sre2l"}``).

    Returns:
        What ``report.json`` holds.

    Raises:
        GuardError: If anything is wrong; the message says what, what was seen, and what to do.
    """
    config = config if isinstance(config, RunConfig) else configure(**config)
    host = PluginHost()
    method = host.method(config.method)
    job = _Job(config, host, method(method.Config.model_validate(_own_options(config, method))))
    with preserved_streams():
        return job.run()


def _own_options(config: RunConfig, method: type[Method]) -> dict[str, Any]:
    return {name: getattr(config, name) for name in method.Config.model_fields}


class _Job:
    """One run: holds what the stages share."""

    def __init__(self, config: RunConfig, host: PluginHost, method: Method) -> None:
        self.config, self.host, self.method = config, host, method
        self.protocol = find_protocol(config.evaluation.protocol)
        self.data = _load(host, config)
        engine = Engine(config.device)
        self.folder = RunFolder.create(config.output or RunFolder.default(config.method, config.dataset))
        self.monitor = Monitor(self.folder.events, quiet=not engine.is_main)
        self.task = Task(config, self.data, engine, Seeds(config.seed), self.monitor, host.networks)
        self.hook: CurvatureHook | None = None if config.no_guard else build_hook(config.guard)

    def run(self) -> Report:
        self._begin()
        teacher, card = self._teacher() if self.method.uses_teacher else (None, self._card(None))
        with self.monitor.stage("distill"):
            distilled = self.method.distill(self.task, teacher)
            save_distilled(self.folder.distilled, distilled, self.data.classes)
            save_contact_sheet(self.folder.contact_sheet, distilled)
        if card.hook is None:
            card = self._card(hook_report(self.hook))
        models = self._models(teacher, distilled)
        report = self._report(card, models)
        write_text(self.folder.report, report.model_dump_json(indent=2) + "\n")
        write_text(self.folder.report.with_suffix(".md"), markdown(report))
        return report

    def _begin(self) -> None:
        write_text(self.folder.config, yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False))
        write_manifest(
            self.folder.manifest, seed=self.config.seed, entries=self.host.entries, device=self.task.engine.describe()
        )
        for broken in self.host.broken.values():
            self.monitor.say(f"warning: plugin {broken.plugin!r} of {broken.origin} is broken: {broken.reason}")
        self.monitor.say(f"run folder: {self.folder.path}")
        if self.hook is not None:
            wrap_guarded(self.method, self.hook)

    def _teacher(self) -> tuple[Normalised, TeacherCard]:
        model = self.task.network(stage="teacher")
        self.method.check(self.task, model)
        card = self._card(None)
        with self.monitor.stage("teacher"):
            if self.config.teacher.path:
                card = load_teacher(self.config.teacher.path, model, card)
                self.monitor.say(f"teacher reused, trained {'with' if card.guard else 'without'} the curvature hook")
            else:
                self.method.train_teacher(self.task, model)
                card = self._card(hook_report(self.hook))
            model.eval().requires_grad_(False)
            save_teacher(self.folder.teacher, model, card)
        return model, card

    def _card(self, hook: HookReport | None) -> TeacherCard:
        settings, guard = self.config.teacher, None if self.config.no_guard else self.config.guard.model_dump()
        return TeacherCard(
            network=settings.network, activation=settings.activation, image_shape=self.data.image_shape,
            classes=self.data.classes, guard=guard, hook=hook,
        )  # fmt: skip

    def _models(self, teacher: Normalised | None, distilled: DistilledSet) -> Models:
        with self.monitor.stage("students"):
            soft = teacher if self.method.labels == "soft" else None
            students = self._students(distilled, soft, "student")
            hard = self._students(load_pngs(self.folder.distilled), None, "student-hard")
        with self.monitor.stage("evaluation"):
            return Models(
                teacher=self._measure([teacher], "teacher") if teacher else None,
                student=self._measure(students, "student"),
                student_hard=self._measure(hard, "student-hard"),
            )

    def _students(self, distilled: DistilledSet, teacher: Normalised | None, name: str) -> list[Normalised]:
        count = self.config.student.count
        return [train_student(self.task, distilled, teacher, stage=f"{name}/{number}") for number in range(count)]

    def _measure(self, models: list[Normalised], name: str) -> ModelReport:
        return measure(self.task, models, self.protocol, self.host.attacks, name=name)

    def _report(self, card: TeacherCard, models: Models) -> Report:
        return Report(
            method=self.config.method, dataset=self.data.name, ipc=self.config.ipc, seed=self.config.seed,
            protocol=self.protocol.name, guard=card.guard, models=models, hook=card.hook, seconds=self.monitor.seconds,
        )  # fmt: skip


def _load(host: PluginHost, config: RunConfig) -> Data:
    request = DataRequest(
        root=config.data_root, download=config.download, image_size=config.data.image_size,
        train_per_class=config.data.train_per_class, test_per_class=config.data.test_per_class,
    )  # fmt: skip
    return host.datasets[config.dataset]().load(request)
