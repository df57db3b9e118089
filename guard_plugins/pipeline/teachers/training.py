"""The teachers of a run: each is read from the cache or trained under a hook of its own, and written with its card.

In several processes, all train it together, and the first writes it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from guard_plugins.artifacts.atomic import made
from guard_plugins.artifacts.teacher import TeacherCard, load_teacher, require_finite_weights, write_teacher
from guard_plugins.artifacts.tensors import write_tensors
from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import ConfigError, DamagedError, PluginError
from guard_plugins.files import regular
from guard_plugins.method import Method
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.declared import config_for, task_for
from guard_plugins.pipeline.guard import hook_report
from guard_plugins.pipeline.plugin_calls import calling
from guard_plugins.pipeline.preparation import Prepared, build_method
from guard_plugins.pipeline.teacher_file import card_of
from guard_plugins.pipeline.teachers.cache import TeacherCache, key_of
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.sharing.ranks import Ranks
from guard_plugins.runtime.sharing.team import Team
from guard_plugins.runtime.task import Task
from guard_plugins.runtime.teachers import Snapshots, TeacherSpec, TrainedTeacher
from guard_plugins.training.diverged import require_finite_logits
from guard_plugins.training.parts import require_parts


def in_company(prepared: Prepared, spec: TeacherSpec, processes: int) -> bool:
    """Return whether several processes train a teacher: the host's loop, on batches with an image for each of them."""
    own = prepared.plugin.value.train_teacher is not Method.train_teacher
    size = min(config_for(prepared.config, spec).teacher.batch_size, len(prepared.data.train))
    return not own and size >= processes > 1


def require_team(prepared: Prepared, processes: int) -> None:
    """Return if several processes can train the teachers as asked, before anything is written.

    Raises:
        ConfigError: If a network has layers that cannot, or none that ``--teacher.batchnorm local`` is for.
    """
    if prepared.config.teacher.path is not None:
        return
    task = prepared.task(Monitor(quiet=True), Keeper(Checkpoints(None, every=math.inf)))
    for spec in prepared.teachers:
        if in_company(prepared, spec, processes):
            require_parts(task_for(task, spec).network(stage="teacher"), prepared.config.teacher.batchnorm)


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
        ranks = self._run.task.keeper.ranks
        processes = ranks.size if ranks is not None and self._together(ranks) else 1
        key = key_of(prepared, self._spec, self._run.device_type, processes)
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

    def along(self, ranks: Ranks) -> None:
        """Train the teacher together with the first process, which keeps it.

        Args:
            ranks: All processes, of which this is not the first.

        Raises:
            GuardError: If anything goes wrong, in any of them.
        """
        with Team(ranks, self._task.device) as team:
            self._fit(team, Snapshots((), self._keep))

    def _train(self) -> tuple[TrainedTeacher, TeacherCard]:
        prepared = self._run.prepared
        with self._company() as team:
            model, task, hook = self._fit(team, Snapshots(self._spec.snapshots, self._keep))
        missing = [epoch for epoch, path in self.snapshots.items() if not path.is_file()]
        if missing:
            raise PluginError(
                f"`train_teacher` of {prepared.method.name!r} kept no weights of the epochs {missing}",
                do="Its authors must call task.snapshot(epoch, model) before the first step and after every epoch.",
            )
        card = card_of(task.config, prepared.data, guarded=hook is not None, hook=hook_report(hook))
        if team is not None:
            card = card.model_copy(update={"processes": team.size, "batchnorm": task.config.teacher.batchnorm})
        require_finite_weights(model, "teacher")
        require_finite_logits(model, prepared.data, who="teacher")
        made(self.path.parent)
        write_teacher(self.path, model, card)
        return self._trained(model), card

    def _fit(self, team: Team | None, snapshots: Snapshots) -> tuple[Normalised, Task, CurvatureHook | None]:
        """Return the model as it was trained, with its task and its hook."""
        run, task, prepared = self._run, self._task, self._run.prepared
        method, hook, keeper = prepared.method, prepared.hook, replace(run.task.keeper, team=team)
        if self._index:  # a hook counts steps and holds what it measured: each teacher has one of its own
            method, hook = build_method(run.config, prepared.host)
            riders = {} if hook is None else {"hook": hook}
            keeper = Keeper(keeper.checkpoints, keeper.stop, riders, ranks=keeper.ranks, team=team)
        task = replace(task, keeper=keeper, snapshots=snapshots)
        model = task.network(stage="teacher")
        with calling(prepared.plugin, "train_teacher", run=run.folder.path):
            method.train_teacher(task, model)
        return model, task, hook

    @contextlib.contextmanager
    def _company(self) -> Iterator[Team | None]:
        """Yield all processes, where several train the teacher together."""
        ranks, checkpoints = self._run.task.keeper.ranks, self._run.checkpoints
        if ranks is None or not self._together(ranks):
            yield None
            return
        self._task.monitor.say(f"{ranks.size} processes train the teacher, each on a part of every batch")
        with ranks.joining(self._index, checkpoints.inputs), Team(ranks, self._task.device) as team:
            yield team

    def _together(self, ranks: Ranks) -> bool:
        return in_company(self._run.prepared, self._spec, ranks.size)

    def _keep(self, epoch: int, weights: dict[str, Tensor]) -> None:
        made(self.snapshots[epoch].parent)
        write_tensors(self.snapshots[epoch], weights)

    def _trained(self, model: Normalised) -> TrainedTeacher:
        model.eval().requires_grad_(False)
        return TrainedTeacher(self._spec, model, lambda epoch: load_file(regular(self.snapshots[epoch])))
