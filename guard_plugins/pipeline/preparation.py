"""Everything about a run that can be checked before anything is written or trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from guard_plugins.config import RunConfig
from guard_plugins.curvature import CurvatureHook
from guard_plugins.data.base import Data
from guard_plugins.data.validation import with_validation
from guard_plugins.errors import ConfigError
from guard_plugins.evaluation.protocols import Protocol, find_protocol
from guard_plugins.host import PluginHost, Registered
from guard_plugins.host.configure import host_of
from guard_plugins.host.effects import idle_settings
from guard_plugins.host.used import Used, used_parts
from guard_plugins.method import Method
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline.declared import require_teachers, task_for
from guard_plugins.pipeline.features import require_same_features
from guard_plugins.pipeline.guard import build_hook, wrap_guarded
from guard_plugins.pipeline.plugin_calls import calling
from guard_plugins.pipeline.teacher_file import load_given_teacher
from guard_plugins.runtime.engine import Engine
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.task import Task
from guard_plugins.runtime.teachers import TeacherSpec
from guard_plugins.runtime.tensorboard import require_tensorboard


@dataclass(frozen=True)
class Prepared:
    """A run that may begin.

    Attributes:
        config: The resolved configuration.
        host: The loaded plugins.
        plugin: The method's class and where it came from.
        method: The method, its guarded functions wrapped.
        hook: The hook around them; None without one.
        protocol: The attacks of the evaluation.
        engine: Device and backward pass.
        data: The real data.
        parts: Whose code it uses.
        teachers: The teachers the method declares; none where it uses none.
    """

    config: RunConfig
    host: PluginHost
    plugin: Registered[Method]
    method: Method
    hook: CurvatureHook | None
    protocol: Protocol
    engine: Engine
    data: Data
    parts: list[Used]
    teachers: tuple[TeacherSpec, ...]

    @property
    def own_options(self) -> list[str]:
        """Names of the method's own options."""
        return list(self.plugin.value.Config.model_fields)

    @property
    def hook_does_not_apply(self) -> bool:
        """Whether the hook is asked for but the method names no function to guard."""
        return self.config.guarded and self.hook is None

    def task(self, monitor: Monitor, keeper: Keeper) -> Task:
        """Return the task as the method gets it.

        Args:
            monitor: Progress and events.
            keeper: Saves the state of the loops.
        """
        seeds = Seeds(self.config.seed)
        return Task(
            self.config, self.data, self.engine, seeds, monitor, self.host.networks, keeper, recipes=self.host.recipes,
            augmentations=self.host.augmentations,
        )  # fmt: skip


def prepare(config: RunConfig, host: PluginHost) -> Prepared:
    """Build the method, load the data and refuse what cannot work.

    Args:
        config: The resolved configuration.
        host: The loaded plugins.

    Raises:
        GuardError: If anything the configuration names is not there, or does not fit the rest.
    """
    if config.log == "tensorboard":
        require_tensorboard()
    method, hook = build_method(config, host)
    protocol = find_protocol(config.evaluation.protocol, host.attacks, eps=config.evaluation.eps)
    plugin, engine = host.methods.registered(config.method), Engine(config.device)
    parts = used_parts(config, host)
    with calling(plugin, "teachers"):
        teachers = require_teachers(method, config, plugin.origin) if method.uses_teacher else ()
    data = _load(config, host)
    prepared = Prepared(config, host, plugin, method, hook, protocol, engine, data, parts, teachers)
    _try_networks(prepared)
    return prepared


def require_possible(configs: Sequence[RunConfig]) -> None:
    """Prepare one run of each method, so that a mistake in the last is found before the first takes its hours.

    Args:
        configs: Runs of a series, which differ in seed, method and teacher only.

    Raises:
        GuardError: If one cannot begin.
    """
    for config in {config.method: config for config in reversed(configs)}.values():
        path = config.teacher.path
        if path is not None and not path.exists():  # another run of the series will leave it
            config = config.model_copy(update={"teacher": config.teacher.model_copy(update={"path": None})})
        prepare(config, host_of(config))


def build_method(config: RunConfig, host: PluginHost) -> tuple[Method, CurvatureHook | None]:
    """Return a new instance of the method, and the hook around its guarded functions where there is one.

    Args:
        config: The resolved configuration.
        host: The loaded plugins.

    Raises:
        GuardError: If the method is not there or cannot be built.
    """
    kind = host.method(config.method)
    options = {name: getattr(config, name) for name in kind.Config.model_fields}
    with calling(host.methods.registered(config.method), "its constructor"):
        method = kind(kind.Config.model_validate(options))
    hook = build_hook(config.guard) if config.guarded and method.guarded else None
    if hook is not None:
        wrap_guarded(method, hook)
    return method, hook


def _load(config: RunConfig, host: PluginHost) -> Data:
    dataset = host.datasets.registered(config.dataset)
    with calling(dataset, "load"):
        data = dataset.value().load(config.data_request())
        if not isinstance(data, Data):
            raise TypeError(f"it must return a Data, not {type(data).__name__}")
        data = with_validation(data, config.data.validation_per_class)
    idle = {setting.path for setting in idle_settings(config, host.method(config.method), dataset.value)}
    cut = config.teacher.crop_from == "original" and ("teacher", "crop_from") not in idle
    if cut and data.train.originals is None:
        raise ConfigError(
            f"The data set {config.dataset} has no originals to cut boxes from (--teacher.crop-from original)",
            seen="its training split has only images of one size", do="Give --teacher.crop-from square.",
        )  # fmt: skip
    return data


def _try_networks(prepared: Prepared) -> None:
    """Build every network once, and let the method look at its teacher."""
    config = prepared.config
    keeper = Keeper(Checkpoints(None, every=config.checkpoint_every))
    task = prepared.task(Monitor(quiet=True), keeper)
    student = task.network(config.student.network, config.student.activation, stage="student")
    require_answers(student, prepared, config.student.network or config.teacher.network)
    networks = []
    for spec in prepared.teachers:
        networks.append(task_for(task, spec).network(stage="teacher"))
        require_answers(
            networks[-1], prepared, spec.network or config.teacher.network, given=config.teacher.path is not None
        )
    teacher: Normalised | None = next(iter(networks), None)
    require_same_features(task, teacher)
    with calling(prepared.plugin, "check"):
        prepared.method.check(task, teacher)
    if teacher is not None and config.teacher.path:
        load_given_teacher(config, prepared.data, teacher, networks=task.networks)


def require_answers(network: Normalised, prepared: Prepared, name: str, *, given: bool = False) -> None:
    """Return if a network is trainable and answers images with one logit for each class.

    Args:
        network: As it was built.
        prepared: Has the data.
        name: What it is registered as.
        given: Whether its weights are given, so that none must be trainable.

    Raises:
        PluginError: If it does not; the message names whose code it is.
    """
    data, registered = prepared.data, prepared.host.networks.registered(name)
    with calling(registered, "its network"):
        if not any(p.requires_grad for p in network.parameters()) and not given:
            raise TypeError("it has no weights that can be trained")
        device = next(iter(network.parameters()), torch.empty(0)).device
        images = torch.rand(2, *data.image_shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            answer = network.eval()(images.to(device))
        wanted = (2, len(data.classes))
        if not isinstance(answer, Tensor) or tuple(answer.shape) != wanted or not answer.is_floating_point():
            got = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
            raise TypeError(f"it must answer 2 images with logits of shape {wanted}, not with {got}")
