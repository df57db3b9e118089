"""The teachers of a run: each is read from the cache or trained under a hook of its own, and written with its card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from guard_plugins.artifacts.atomic import made
from guard_plugins.artifacts.teacher import TeacherCard, load_teacher, write_teacher
from guard_plugins.artifacts.tensors import write_tensors
from guard_plugins.errors import ConfigError, DamagedError, PluginError
from guard_plugins.files import regular
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.guard import hook_report
from guard_plugins.pipeline.plugin_calls import calling
from guard_plugins.pipeline.preparation import build_method
from guard_plugins.pipeline.teacher_file import card_of
from guard_plugins.pipeline.teachers.cache import TeacherCache, key_of
from guard_plugins.pipeline.teachers.declared import config_for, task_for
from guard_plugins.runtime.loop import Keeper
from guard_plugins.runtime.teachers import Snapshots, TrainedTeacher


class Training:
    """The training of one teacher of a run.

    Attributes:
        path: The file of its weights.
        snapshots: The files of its snapshots, by epoch.

    Args:
        run: The run.
        index: Its number in the method's declaration, from 0.
    """

    def __init__(self, run: RunContext, index: int) -> None:
        self._run, self._index, self._spec = run, index, run.prepared.teachers[index]
        self._task = task_for(run.task, self._spec)
        folder = run.folder.teachers
        self.path = folder / f"{index:02d}.safetensors" if index else run.folder.teacher
        self.snapshots = {
            epoch: folder / f"{index:02d}-epoch-{epoch:04d}.safetensors" for epoch in self._spec.snapshots
        }

    @property
    def files(self) -> list[Path]:
        """All its files."""
        return [self.path, *self.snapshots.values()]

    @property
    def expected(self) -> TeacherCard:
        """What its file must say."""
        return card_of(config_for(self._run.config, self._spec), self._run.prepared.data)

    def read(self) -> tuple[TrainedTeacher, TeacherCard]:
        """Return the teacher of an earlier process or of the cache, and its card.

        Raises:
            ArtifactError: If a file is damaged.
        """
        model = self._task.network(stage="teacher")
        return self._trained(model), load_teacher(self.path, model, self.expected)

    def do(self) -> tuple[TrainedTeacher, TeacherCard]:
        """Return the teacher, from the cache or trained, with its files in the run's folder, and its card.

        Raises:
            GuardError: If anything goes wrong.
        """
        prepared, cache_folder = self._run.prepared, self._run.config.teacher.cache
        if cache_folder is None:
            return self._train()
        key = key_of(prepared, self._spec, self._run.device_type)
        names = {path: f"epoch-{epoch:04d}.safetensors" for epoch, path in self.snapshots.items()}
        files = {"teacher.safetensors": self.path, **{name: path for path, name in names.items()}}
        cache = TeacherCache(cache_folder, self._task.monitor.say)
        if cache.fetch(key, files):
            try:
                return self.read()
            except (ConfigError, DamagedError) as error:
                self._task.monitor.say(f"the entry of {cache_folder} is not used: {error.what}")
        trained = self._train()
        cache.store(key, files)
        return trained

    def _train(self) -> tuple[TrainedTeacher, TeacherCard]:
        run, task, prepared = self._run, self._task, self._run.prepared
        method, hook = prepared.method, prepared.hook
        if self._index:  # a hook counts steps and holds what it measured: each teacher has one of its own
            method, hook = build_method(run.config, prepared.host)
            keeper = run.task.keeper
            task = replace(task, keeper=Keeper(keeper.checkpoints, keeper.stop, {} if hook is None else {"hook": hook}))
        model = task.network(stage="teacher")
        with calling(prepared.plugin, "train_teacher", run=run.folder.path):
            method.train_teacher(replace(task, snapshots=Snapshots(self._spec.snapshots, self._keep)), model)
        missing = [epoch for epoch, path in self.snapshots.items() if not path.is_file()]
        if missing:
            raise PluginError(
                f"`train_teacher` of {prepared.method.name!r} kept no weights of the epochs {missing}",
                do="Its authors must call task.snapshot(epoch, model) before the first step and after every epoch.",
            )
        card = card_of(task.config, prepared.data, guarded=hook is not None, hook=hook_report(hook))
        made(self.path.parent)
        write_teacher(self.path, model, card)
        return self._trained(model), card

    def _keep(self, epoch: int, weights: dict[str, Tensor]) -> None:
        made(self.snapshots[epoch].parent)
        write_tensors(self.snapshots[epoch], weights)

    def _trained(self, model: Normalised) -> TrainedTeacher:
        model.eval().requires_grad_(False)
        return TrainedTeacher(self._spec, model, lambda epoch: load_file(regular(self.snapshots[epoch])))
