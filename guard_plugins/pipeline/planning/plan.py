"""What a run would take on so many devices: hours, memory, disk and what limits it, before anything is done."""

from __future__ import annotations

import contextlib
import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from guard_plugins.artifacts.formatting import counted
from guard_plugins.config import RunConfig
from guard_plugins.host.configure import host_of
from guard_plugins.labels.relabel import layout_of
from guard_plugins.pipeline.cores import own_threads
from guard_plugins.pipeline.planning.estimate import Estimate, duration, estimate_run
from guard_plugins.pipeline.planning.passes import attack_passes, curvature_passes, gate_passes, time_passes
from guard_plugins.pipeline.planning.samples import timed_batch
from guard_plugins.pipeline.preparation import Prepared, build_method, prepare
from guard_plugins.pipeline.teachers.training import in_company
from guard_plugins.runtime.engine import repeatable
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import preserved_streams
from guard_plugins.runtime.task import Task
from guard_plugins.training.recipes import recipe_of

ASSUMED: Final = (
    "assumed: all devices and hosts are like this one, and dividing the work costs nothing",
    "assumed: sums over the processes that train a teacher take no time, and one process makes all gates",
    "assumed: no attack breaks an image, so all attacks take the longest they can",
)
"""What every plan takes for granted."""


@dataclass(frozen=True)
class StagePlan:
    """One stage of a plan.

    Attributes:
        name: The stage.
        seconds: Its duration in one process.
        items: Items that processes may share; 1 for a stage of one process. Of a teacher: images of a batch.
        processes: Processes that have something to do.
        wall: Its duration with them.
    """

    name: str
    seconds: float
    items: int
    processes: int
    wall: float

    @classmethod
    def of(cls, name: str, seconds: float, items: int, devices: int) -> StagePlan:
        """Return the plan of a stage whose items take equally long."""
        rounds = math.ceil(items / devices)
        return cls(name, seconds, items, min(items, devices), seconds * rounds / items)


@dataclass(frozen=True)
class Plan:
    """What a run would take.

    Attributes:
        stages: The stages, in order.
        devices: Number of processes, one on each device.
        hosts: Number of machines they are on.
        memory: Bytes a process needs at its peak: on its host, and on its GPU where there is one.
        disk: Bytes of the run's folder at its peak.
        bottleneck: The stage that takes longest.
        enough: Number of processes above which no stage gets faster.
        complete: Whether everything could be timed; otherwise times are lower bounds.
        notes: How it was timed, and what is assumed.
    """

    stages: tuple[StagePlan, ...]
    devices: int
    hosts: int
    memory: dict[str, int]
    disk: int
    bottleneck: str
    enough: int
    complete: bool
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Duration of all stages, one after the other."""
        return sum(stage.wall for stage in self.stages)

    def as_json(self) -> dict[str, Any]:
        """Return the plan as values that JSON can hold; times in seconds, sizes in bytes."""
        return {**asdict(self), "seconds": self.seconds}

    def lines(self) -> list[str]:
        """Return the plan for a person."""
        at_least = "" if self.complete else "at least "
        rows = [
            f"{stage.name:<11} {duration(stage.wall):>8}  in {stage.processes} of {self.devices} processes"
            + (f", {stage.items} {'images a step' if stage.name == 'teacher' else 'items'}" if stage.items > 1 else "")
            for stage in self.stages
        ]
        memory = ", ".join(f"{size / 2**30:.1f} GiB{where}" for where, size in self.memory.items())
        return [
            *rows,
            f"{'total':<11} {at_least}{duration(self.seconds)} on {counted(self.devices, 'device')} of "
            f"{counted(self.hosts, 'host')}",
            f"memory      {memory} for each process",
            f"disk        {self.disk / 1e9:.1f} GB at the peak",
            f"bottleneck  {self.bottleneck}; more than {self.enough} processes make no stage faster",
            *(f"note: {note}" for note in self.notes),
        ]


def plan(config: RunConfig, *, gpus: int = 1, hosts: int = 1) -> Plan:
    """Return what a run of this configuration would take; nothing is written.

    Args:
        config: The resolved configuration.
        gpus: Devices of each host.
        hosts: Number of hosts.

    Raises:
        GuardError: If the run could not begin.
    """
    with contextlib.ExitStack() as stack, preserved_streams(), repeatable():
        prepared = prepare(config, host_of(config))
        stack.enter_context(own_threads(prepared))
        task = prepared.task(Monitor(quiet=True), Keeper(Checkpoints(None, every=math.inf)))
        return plan_of(prepared, task, gpus=gpus, hosts=hosts)


def plan_of(prepared: Prepared, task: Task, *, gpus: int, hosts: int) -> Plan:
    """Return what the run of a task would take; see :func:`plan`.

    Args:
        prepared: What the run was prepared with.
        task: Its task.
        gpus: Devices of each host.
        hosts: Number of hosts.
    """
    devices = gpus * hosts
    method, _ = build_method(prepared.config, prepared.host)
    estimate = estimate_run(task, method)
    stages = [
        StagePlan.of(name, seconds, _items(name, prepared, task, devices), devices)
        for name, seconds in estimate.seconds.items()
    ]
    stages += _evaluation(prepared, task, devices)
    return Plan(
        stages=tuple(stages), devices=devices, hosts=hosts, memory=estimate.memory, disk=estimate.disk,
        bottleneck=max(stages, key=lambda stage: stage.wall).name, enough=max(stage.items for stage in stages),
        complete=estimate.complete, notes=(*_scaled(task, estimate), *ASSUMED),
    )  # fmt: skip


def _items(stage: str, prepared: Prepared, task: Task, devices: int) -> int:
    if stage == "teacher":
        together = all(in_company(prepared, spec, devices) for spec in prepared.teachers)
        return min(task.config.teacher.batch_size, len(task.data.train)) if together else 1
    if stage == "distill":
        return max(work.count for work in prepared.method.work(task))
    return len(layout_of(task).shards()) if stage == "relabel" else 2 * task.config.student.count


def _evaluation(prepared: Prepared, task: Task, devices: int) -> list[StagePlan]:
    """Return the attacks on every model, whose items are a model, an attack and a radius, and then the gate."""
    config, protocol = task.config, prepared.protocol
    student = task.network(config.student.network, config.student.activation, stage="student").eval()
    teacher = [task.network(stage="teacher").eval()] if prepared.method.uses_teacher else []
    images = min(len(task.data.test), config.evaluation.images or len(task.data.test))
    models = [student] * (2 * config.student.count) + teacher
    times = {model: time_passes(task, model, images) for model in [student, *teacher]}
    attacks = attack_passes(protocol, prepared.host.attacks, task)
    seconds = sum(images * passes.seconds(times[model]) for passes in attacks for model in models)
    # Few images, in small batches, which take longer for each.
    gate, curvature = gate_passes(protocol, task), curvature_passes(task)
    small = {model: time_passes(task, model, min(images, protocol.probe_images)) for model in [student, *teacher]}
    rest = sum(gate.seconds(each) for each in small.values())
    rest += sum(curvature.seconds(small[model]) for model in [student, student, *teacher])
    return [
        StagePlan.of("evaluation", seconds, len(models) * len(attacks), devices),
        StagePlan.of("gate", rest, 1, devices),
    ]


def _scaled(task: Task, estimate: Estimate) -> list[str]:
    asked = {
        "teacher": task.config.teacher.batch_size,
        "students": min(recipe_of(task.config.student, task.recipes).batch_size, task.classes * task.ipc),
    }
    smaller = [f"{name} {timed_batch(task, size)} of {size}" for name, size in asked.items()
               if name in estimate.seconds and timed_batch(task, size) < size]  # fmt: skip
    if not smaller:
        return []
    return [f"timed in smaller batches and scaled: {', '.join(smaller)} images; memory is with these batches"]
