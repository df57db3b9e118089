"""The teachers that a method declares: checked before anything is trained, and each in a task of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from guard_plugins.config import RunConfig
from guard_plugins.config.schema import BEFORE
from guard_plugins.errors import ConfigError, PluginError
from guard_plugins.method import Method
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.task import Task
from guard_plugins.runtime.teachers import TeacherSpec, TrainedTeacher


def config_for(config: RunConfig, spec: TeacherSpec) -> RunConfig:
    """Return the configuration under which a teacher is trained."""
    named = {name: getattr(spec, name) for name in ("network", "activation", "epochs")}
    update = {name: value for name, value in named.items() if value is not None}
    return config.model_copy(update={"teacher": config.teacher.model_copy(update=update)}) if update else config


def fingerprinted(config: RunConfig, names: Collection[str]) -> dict[str, Any]:
    """Return these parts of a configuration, as a fingerprint takes them.

    What stands for how models were trained before there was a choice is left out, so that earlier runs go on. With
    global BatchNorm, a teacher is the same but for rounding in any number of processes.
    """
    found = config.model_dump(mode="json", include=set(names))
    for (section, name), before in BEFORE.items():
        if section in found and found[section][name] == before:
            del found[section][name]
    return found


def task_for(task: Task, spec: TeacherSpec) -> Task:
    """Return the task in which a teacher is trained: with its network and epochs, and randomness of its own."""
    task = task.child("teacher", spec.seed) if spec.seed else task
    return replace(task, config=config_for(task.config, spec))


def described(spec: TeacherSpec) -> list[dict[str, Any]]:
    """Return what a fingerprint takes of a teacher; nothing for the plain one of a run with a single teacher."""
    return [] if spec == TeacherSpec() else [asdict(spec)]


def rehearsed(task: Task, method: Method, first: Normalised) -> tuple[TrainedTeacher, ...]:
    """Return untrained teachers in place of the trained ones, for trying out ``distill``.

    Args:
        task: The task.
        method: The method that declares them.
        first: The model to take for the first one.
    """
    _, *others = specs = tuple(method.teachers())
    models = [first, *(task_for(task, spec).network(stage="teacher").eval().requires_grad_(False) for spec in others)]
    return tuple(TrainedTeacher(spec, model, _state_of(model)) for spec, model in zip(specs, models, strict=True))


def _state_of(model: Normalised) -> Callable[[int], dict[str, Tensor]]:
    return lambda epoch: {name: value.detach().cpu() for name, value in model.state_dict().items()}


def require_teachers(method: Method, config: RunConfig, origin: str) -> tuple[TeacherSpec, ...]:
    """Return what teachers a method declares, if they can be trained.

    Args:
        method: The method.
        config: The resolved configuration.
        origin: Distribution and version of the method.

    Raises:
        PluginError: If the declaration is wrong.
        ConfigError: If a snapshot lies behind the last epoch, or ``--teacher`` gives one of several.
    """
    specs = tuple(method.teachers())
    if not specs or not all(isinstance(spec, TeacherSpec) for spec in specs) or len(set(specs)) < len(specs):
        raise PluginError(
            f"`teachers` of {method.name!r} of {origin} must return TeacherSpecs that differ", seen=f"{specs!r}"
        )
    for spec in specs:
        epochs = config_for(config, spec).teacher.epochs
        if any(not 0 <= epoch <= epochs for epoch in spec.snapshots):
            raise ConfigError(
                f"The method {method.name!r} needs snapshots of a teacher that its training does not reach",
                seen=f"epochs {spec.snapshots} of {epochs}",
                do="Raise --teacher.epochs, or change the method's options.",
            )  # fmt: skip
    if config.teacher.path is not None and (len(specs) > 1 or specs[0].snapshots):
        raise ConfigError(
            f"The method {method.name!r} needs more than a given teacher has (--teacher)",
            seen=f"{len(specs)} teachers, {sum(len(spec.snapshots) for spec in specs)} snapshots of their training",
            do="Leave --teacher out; --teacher.cache DIR shares trained teachers between runs.",
        )
    return specs
