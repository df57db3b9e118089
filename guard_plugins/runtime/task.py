"""Everything the host gives a method: data, seeds, device, networks, settings, progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from guard_plugins.errors import PluginError
from guard_plugins.networks.normalised import Normalised, build_normalised
from guard_plugins.runtime.engine import Engine
from guard_plugins.runtime.items import join_items
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.keeping.keepsakes import MethodFolder
from guard_plugins.runtime.loop import Between, LoopState, Step, steps
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.teachers import Snapshots, TrainedTeacher

if TYPE_CHECKING:
    from guard_plugins.config import RunConfig
    from guard_plugins.data.base import Data
    from guard_plugins.data.distilled import DistilledSet
    from guard_plugins.networks.base import Activation, Network


@dataclass(frozen=True)
class Task:
    """One distillation task.

    Attributes:
        config: The resolved configuration of the run (shared sections and the method's own options).
        data: The real data.
        engine: Device and backward pass.
        seeds: Source of all randomness of this part of the run.
        monitor: Progress and events.
        networks: The architectures by name.
        keeper: Saves the state of the loops.
        teachers: In ``distill``: the trained teachers, in the order in which the method declares them.
        snapshots: In ``train_teacher``: keeps weights of epochs that are asked for.
        recipes: The students' recipes by name; those of the project are known without.
        augmentations: The augmentations by name; those of the project are known without.
        validator: In ``distill``, where the run validates: from name, steps and preview of a loop to what is done
            between its steps.
    """

    config: RunConfig
    data: Data
    engine: Engine
    seeds: Seeds
    monitor: Monitor
    networks: Mapping[str, type[Network]]
    keeper: Keeper
    teachers: Sequence[TrainedTeacher] = field(default=(), kw_only=True)
    snapshots: Snapshots | None = field(default=None, kw_only=True)
    recipes: Mapping[str, type[Any]] = field(default_factory=dict, kw_only=True)
    augmentations: Mapping[str, type[Any]] = field(default_factory=dict, kw_only=True)
    validator: Callable[[str, int, Callable[[], DistilledSet]], Between] | None = field(default=None, kw_only=True)

    @property
    def ipc(self) -> int:
        """Images per class to distil."""
        return self.config.ipc

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.data.classes)

    @property
    def device(self) -> torch.device:
        """Device to compute on."""
        return self.engine.device

    def network(self, name: str | None = None, activation: Activation | None = None, *, stage: str) -> Normalised:
        """Return a fresh network (pixels in [0, 1] in, logits out) on the device, initialised from the seeds.

        Args:
            name: Architecture; the teacher's where None.
            activation: Activation; the teacher's where None.
            stage: What it is for; different stages get different weights.

        Raises:
            ConfigError: If there is no such architecture, or it cannot take the images.
        """
        teacher = self.config.teacher
        self.seeds.reset(stage, "weights")
        model = build_normalised(
            self.networks[name or teacher.network](), self.data, activation=activation or teacher.activation
        )
        return self.engine.placed(model)

    def steps(
        self, stage: str, total: int, *, state: LoopState, preview: Callable[[], DistilledSet] | None = None
    ) -> Iterator[Step]:
        """Yield the ``total`` steps of a loop; each begins with the global random streams seeded for it alone.

        Args:
            stage: Name of the loop, its own among those of a stage.
            total: Number of steps.
            state: Everything the loop changes; what a resumed run needs to go on.
            preview: Of a loop that makes images: returns the set as it would be if the loop ended now, or the part of
                it that the loop makes. ``--distill.validate-every`` asks for it; see ``Method.previews``.

        Raises:
            PluginError: If another loop had that name.
            TrainingError: If a number given to ``step.log`` is not finite.
            StoppedError: If the run was asked to stop; the state is saved then.
        """
        if total < 0:
            raise PluginError(
                f"The loop {stage!r} has fewer than no steps", seen=f"{total} steps", do="Give 0 or more."
            )
        watched = None if preview is None or self.validator is None else self.validator(stage, total, preview)
        return steps(
            stage, total, state=state, seeds=self.seeds, monitor=self.monitor, device=self.device, keeper=self.keeper,
            between=watched,
        )  # fmt: skip

    def folder(self, name: str) -> MethodFolder:
        """Return a folder for files of the method's own, such as ``task.folder("experts")``; see its ``save``.

        A resumed run finds what was saved there.

        Raises:
            ConfigError: If the name cannot be that of a folder.
            DamagedError: If what an earlier process left there is damaged.
        """
        return self.keeper.keepsakes.folder(name)

    def report(self, **numbers: Tensor | float) -> None:
        """Have numbers of the method's own in ``report.json``, such as ``task.report(experts=3)``.

        Raises:
            TrainingError: If one is not finite.
        """
        self.keeper.keepsakes.report(numbers)

    def items(self, stage: str, count: int, make: Callable[[int], Tensor]) -> Tensor:
        """Return the tensors of ``count`` items one after the other, each made once and kept in a file.

        Items must not depend on each other: processes may make some each, in any order. So the result is not held in
        memory where it is large; it must not be changed in place.

        Args:
            stage: Name of the stage. Item ``i`` is called ``stage/i``, and so is the loop that makes it.
            count: Number of items, at least 1.
            make: From the number of an item to its tensor, on the CPU; all of one type, equal but for the first
                dimension.

        Raises:
            StoppedError: If the run was asked to stop; finished items are kept.
        """
        self.keeper.checkpoints.begin(stage, "items")
        return join_items(self.keeper, [f"{stage}/{number}" for number in range(count)], make, self.monitor.say)

    def snapshot(self, epoch: int, model: nn.Module) -> None:
        """Keep the weights of a teacher after ``epoch`` epochs (0: before the first step) if they are asked for.

        Raises:
            ArtifactError: If they cannot be written.
        """
        if self.snapshots is not None:
            self.snapshots.take(epoch, model)

    def child(self, *path: str | int) -> Task:
        """Return the same task with randomness of its own, for one of several like parts (students, say)."""
        return replace(self, seeds=self.seeds.child(*path))
