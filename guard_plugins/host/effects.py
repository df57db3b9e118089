"""Refuses settings that would do nothing: what is asked is what is done.

The host knows what its own code reads; a method says the rest by what it declares (``uses_teacher``, ``guarded``,
``labels``, ``reads``, ``idle``), a data set by ``ignores``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, NamedTuple

from guard_plugins.artifacts.weights.published import is_published
from guard_plugins.config import RunConfig, TeacherConfig
from guard_plugins.config.compose import Configurable, compose
from guard_plugins.config.explain import flag
from guard_plugins.config.layers import Layer
from guard_plugins.config.schema import OBJECTIVES, OF_PLAIN
from guard_plugins.config.section import ForeignWeights
from guard_plugins.data.base import DataSet
from guard_plugins.errors import ConfigError, PluginError
from guard_plugins.method import Method
from guard_plugins.runtime.sharing.world import World
from guard_plugins.training.recipes import Recipe

Path = tuple[str, ...]

HOOK_TERM: Final = ("weight", "penalty", "every")
"""Options of the hook that act on the teacher's training alone; h is also where curvature is measured."""


class Idle(NamedTuple):
    """A setting that would do nothing.

    Attributes:
        path: The setting.
        why: The reason, as the middle of a sentence.
        cause: The setting that is the reason, such as ``("no_guard",)``; empty for options of the method itself.
        do: What the user probably wants.
    """

    path: Path
    why: str
    cause: Path = ()
    do: str = "Leave it out, or change the settings that exclude it."


def refuse_idle(
    config: RunConfig,
    method: type[Method],
    dataset: type[DataSet],
    layers: Sequence[Layer],
    recipe: Recipe | None = None,
) -> None:
    """Refuse what the user gave and nothing would read.

    A value in a file or a variable passes where it is the value that would hold anyway, so that a run's own
    ``config.yaml`` and settings for several methods can be used again. So does one that a switch in a stronger layer
    overrules, as ``--no-guard`` overrules a file's ``guard`` section.

    Args:
        config: The resolved configuration.
        method: The method's class.
        dataset: The data set's class.
        layers: Where the settings came from, weakest first.
        recipe: The students' recipe as it was registered.

    Raises:
        ConfigError: If a setting would do nothing.
    """
    plain = None
    found: dict[tuple[str, str], list[str]] = {}
    for idle in idle_settings(config, method, dataset, recipe):
        given, caused = _strongest(layers, idle.path), _strongest(layers, idle.cause)
        if given < 0 or (idle.cause and caused > given) or layers[given].may_be_idle == "yes":
            continue
        if layers[given].may_be_idle == "unchanged":
            plain = plain or _without_settings(method, config)
            if _at(plain.model_dump(), idle.path) == _at(config.model_dump(), idle.path):
                continue
        name = flag(idle.path).removesuffix(".path")  # --teacher is short for --teacher.path
        found.setdefault((idle.why, idle.do), []).append(name)
    for (why, do), flags in found.items():
        raise ConfigError(f"{', '.join(flags)} would do nothing: {why}", do=do)


def idle_settings(
    config: RunConfig, method: type[Method], dataset: type[DataSet], recipe: Recipe | None = None
) -> Iterator[Idle]:
    """Yield every setting that has no effect in this configuration, whether given or not.

    Args:
        config: The resolved configuration.
        method: The method's class.
        dataset: The data set's class.
        recipe: The students' recipe as it was registered.
    """
    yield from of_data(config, dataset)
    yield from _of_teacher(config, method)
    yield from _of_hook(config, method)
    yield from _of_validation(config, method)
    yield from _of_students(config, method, recipe)
    for path, why in _said_by(method, config).items():
        yield Idle(tuple(path.split(".")), why)


def _said_by(method: type[Method], config: RunConfig) -> dict[str, str]:
    """Return what a method says of its own options; a PluginError names one whose code fails."""
    try:
        return {str(option): str(reason) for option, reason in method.idle(config).items()}
    except Exception as error:  # a plugin may raise anything
        raise PluginError(
            f"The method {method.name!r} does not say which of its options do nothing (`idle`)",
            seen=f"{type(error).__name__}: {error}",
            do=f"Correct {method.__module__}: a classmethod that returns reasons by option.",
        ) from error


def of_data(config: RunConfig, dataset: type[DataSet]) -> Iterator[Idle]:
    """Yield the settings of the data that have no effect, whether given or not."""
    if config.data.cache is not None:
        yield Idle(("data", "memory"), "images come from the file in --data.cache", ("data", "cache"))
    for name in dataset.ignores:
        if name == "download" and config.teacher.path is not None and is_published(config.teacher.path):
            continue  # it is for the weights
        why = f"the data set {dataset.name} does not read it (--dataset)"
        do = "Leave it out, or name the data set whose files these are, such as --dataset folder."
        yield Idle(tuple(name.split(".")), why, ("dataset",), do)


def _of_teacher(config: RunConfig, method: type[Method]) -> Iterator[Idle]:
    if method.uses_teacher and config.teacher.path is None:
        for name in ForeignWeights.model_fields:
            yield Idle(("teacher", name), "it is for weights of another code base (--teacher)", ("teacher", "path"))
        if World.of().size == 1:
            why = "one process has the whole of every batch"
            yield Idle(("teacher", "batchnorm"), why, do="Leave it out, or start several processes (docs/scale.md).")
    if config.teacher.augment != "resized-crop-flip":
        why = f"the augmentation {config.teacher.augment} cuts no boxes (--teacher.augment)"
        yield Idle(("teacher", "crop_from"), why, ("teacher", "augment"))
    names, why, cause = _idle_of_teacher(config, method)
    for name in names:
        if f"teacher.{name}" not in (method.reads or ()):
            yield Idle(("teacher", name), why, cause)


def _idle_of_teacher(config: RunConfig, method: type[Method]) -> tuple[list[str], str, Path]:
    """Return the options of the section teacher that nothing reads, the reason, and its cause."""
    # Students and method may take network and activation from the teacher's section, whether there is one or not.
    names = [name for name in TeacherConfig.model_fields if name not in ("network", "activation")]
    objective = sorted({*OF_PLAIN, *(option for options in OBJECTIVES.values() for option in options)})
    if not method.uses_teacher:
        return names, f"the method {method.name} has no teacher", ("method",)
    if config.teacher.path is not None:
        # The objective is compared with what the teacher's file says; the rest is for files that do not say it.
        kept = ("path", "training", *ForeignWeights.model_fields)
        return [name for name in names if name not in kept], "the teacher is given (--teacher)", ("teacher", "path")
    if method.train_teacher is not Method.train_teacher:
        own = (
            ["training", "batchnorm", "crop_from", "ema", *objective]
            if method.reads is None
            else [name for name in names if name not in ("path", "cache")]
        )
        return own, f"the method {method.name} trains its teacher in a loop of its own", ("method",)
    training = config.teacher.training
    used = OBJECTIVES.get(training, OF_PLAIN)
    why = f"the objective {training} does not read it (--teacher.training)"
    return [name for name in objective if name not in used], why, ("teacher", "training")


def _of_hook(config: RunConfig, method: type[Method]) -> Iterator[Idle]:
    why, cause = _why_no_hook(config, method)
    if why:
        for name in HOOK_TERM:
            yield Idle(("guard", name), why, cause)
    elif config.guard.weight == 0:
        for name in HOOK_TERM:
            if name != "weight":
                yield Idle(("guard", name), "the term has no weight (--guard.weight 0)", ("guard", "weight"))


def _why_no_hook(config: RunConfig, method: type[Method]) -> tuple[str, Path]:
    if not method.guarded:
        return f"the method {method.name} has no loss on real data for the hook", ("method",)
    if config.no_guard:
        return "--no-guard leaves the curvature hook out", ("no_guard",)
    if config.teacher.training != "plain":
        return f"--teacher.training {config.teacher.training} takes the hook's place", ("teacher", "training")
    return "", ()


def _of_validation(config: RunConfig, method: type[Method]) -> Iterator[Idle]:
    path = ("distill", "validate_every")
    if not method.previews:
        why = f"the method {method.name} does not offer its images while it works (its `previews` is False)"
        yield Idle(path, why, ("method",))
    elif config.data.validation_per_class is None:
        why = "no training image is held out, and test images are not for this"
        yield Idle(path, why, do="Set some aside, for example with --data.validation-per-class 100.")


def _of_students(config: RunConfig, method: type[Method], recipe: Recipe | None) -> Iterator[Idle]:
    if method.labels == "hard" and config.student.labels != "own":
        yield Idle(("student", "temperature"), f"students of {method.name} learn from hard labels", ("method",))
    elif (
        recipe is not None and recipe.loss in ("mse", "cosine") and "own" not in (method.labels, config.student.labels)
    ):
        why = f"students of the recipe {config.student.protocol} compare logits, without a temperature"
        yield Idle(("student", "temperature"), f"{why} (--student.protocol)", ("student", "protocol"))
    if not config.student.guard_weight:
        why = "students are trained without the hook (--student.guard-weight)"
        yield Idle(("student", "guard_h_rms"), why, ("student", "guard_weight"))
    yield from _of_features(config, method)
    if config.student.cutmix and config.student.mixup:
        yield Idle(("student", "mixup"), "CutMix takes its place (--student.cutmix)", ("student", "cutmix"))


def _of_features(config: RunConfig, method: type[Method]) -> Iterator[Idle]:
    path, labels = ("student", "feature_weight"), config.student.labels
    if labels == "own" or method.labels != "soft":
        why = "students do not learn from one teacher" if method.labels == "mean" else "students ask no teacher"
        yield Idle(path, why, ("student", "labels") if labels == "own" else ("method",))
    elif labels == "stored":
        yield Idle(path, "stored labels hold no features (--student.labels stored)", ("student", "labels"))


def _strongest(layers: Sequence[Layer], path: Path) -> int:
    """Return the number of the last layer that gives ``path``; -1 where none does."""
    found = -1
    for number, layer in enumerate(layers):
        if path and _at(layer.values, path) is not None:
            found = number
    return found


def _at(values: Any, path: Path) -> Any:
    for part in path:
        if isinstance(values, (str, PurePath)) and part == "path":
            return values  # a bare path in place of the section teacher
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _without_settings(method: type[Configurable], config: RunConfig) -> RunConfig:
    """Return the configuration that method, data set and preset alone give."""
    named = {"dataset": config.dataset, "preset": config.preset, "data_root": config.data_root}
    return compose(method, [Layer("", {key: value for key, value in named.items() if value is not None})])
