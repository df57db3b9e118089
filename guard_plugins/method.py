"""What a distillation method is: a config, the functions it wants guarded, and ``distill``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from guard_plugins.runtime.work import Work

if TYPE_CHECKING:
    from guard_plugins.config import RunConfig
    from guard_plugins.data.distilled import DistilledSet
    from guard_plugins.networks.normalised import Normalised
    from guard_plugins.runtime.task import Task
    from guard_plugins.runtime.teachers import TeacherSpec


class MethodConfig(BaseModel):
    """Base of every method's options; each field becomes a flag of ``guard-run`` with its description as help."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class Method(ABC):
    """A distillation method, as plugins register it.

    The host wraps the functions named in ``guarded`` with the curvature hook before it calls anything, so a method
    says where real data meets a loss and contains nothing else about robustness.

    Attributes:
        name: What users pass to ``--method``; the entry point carries the same name.
        summary: One line for listings.
        Config: The options of this method.
        defaults: Settings of the whole run this method prefers to the host's defaults; every preset goes over them.
        presets: Named settings for the whole run (same nesting as the YAML file), laid over the host's of that name.
        guarded: Names of the methods of this class in which a loss on real data is differentiated.
        uses_teacher: Whether ``distill`` needs a trained teacher.
        labels: What its students learn from: ``soft``, the teacher asked for every view; ``hard``, the classes;
            ``own``, the soft labels in the set that ``distill`` returns; ``mean``, as soft, with the mean of the
            logits of all teachers.
        returns_soft_labels: Whether the set has soft labels though ``labels`` is another than ``own``, so that
            ``--student.labels own`` may ask for them.
        rehearsable: Whether ``train_teacher`` and ``distill`` may be called once more before a run, to estimate what it
            will take: all that takes long is in loops of ``task.steps`` or ``task.monitor.track``, which end early.
        reads: Of a method with a ``train_teacher`` of its own: the options of the section ``teacher`` that it reads,
            such as ``("teacher.epochs", "teacher.lr")``; giving any other is then an error. None leaves it open.
        previews: Whether a loop of ``distill`` offers its images while it works (``preview`` of ``task.steps``), for
            the students of ``--distill.validate-every``.
        networks: Those of its own options that name a network, such as ``("mine.network",)``: a name that nobody knows
            is then refused at once, and the run records whose network it is.

    Args:
        config: The validated options.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    defaults: ClassVar[Mapping[str, Any]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    guarded: ClassVar[tuple[str, ...]] = ("train_teacher",)
    uses_teacher: ClassVar[bool] = True
    labels: ClassVar[Literal["soft", "hard", "own", "mean"]] = "soft"
    returns_soft_labels: ClassVar[bool] = False
    rehearsable: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...] | None] = None
    previews: ClassVar[bool] = False
    networks: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: MethodConfig) -> None:
        self.config = config

    def check(self, task: Task, teacher: Normalised | None) -> None:  # noqa: B027 - optional, hence not abstract
        """Refuse early, before any training, what the method cannot work with.

        Args:
            task: The task.
            teacher: The untrained teacher, or None where the method uses none.

        Raises:
            ConfigError: If network, data or options do not fit the method.
        """

    @classmethod
    def idle(cls, config: RunConfig) -> Mapping[str, str]:
        """Return which of the method's own options do nothing in a configuration, each with the reason.

        A user who gives one is told so, for example ``{"mine.depth": "only --mine.shape tree has a depth"}``.

        Args:
            config: The resolved configuration, with the method's options.
        """
        return {}

    def teachers(self) -> Sequence[TeacherSpec]:
        """Return the teachers to train, the first of which ``distill`` gets as its argument; one plain one.

        The run evaluates the first. ``distill`` finds all of them, with their snapshots, in ``task.teachers``.
        """
        from guard_plugins.runtime.teachers import TeacherSpec

        return (TeacherSpec(),)

    def train_teacher(self, task: Task, model: Normalised) -> None:
        """Train ``model`` (pixels in, logits out) on the real data, in place; the host's plain supervised loop."""
        from guard_plugins.training.teacher import train_supervised

        train_supervised(task, model)

    def work(self, task: Task) -> Sequence[Work]:
        """Return how much work ``distill`` is, so that a run can be planned without doing any of it.

        The host times a few steps on a small set, and multiplies by what this says of the whole set over what it says
        of the small one. So only proportions matter, and the number of items that processes may share. The default is
        one item whose work grows with the images.

        Args:
            task: The task; only settings and sizes are to be looked at.
        """
        return (Work("distill", 1, task.ipc * task.classes, 1),)

    @abstractmethod
    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        """Return the distilled set: ``task.ipc`` images of every class.

        Args:
            task: Data, seeds, device, progress and everything else the host offers.
            teacher: The trained teacher in eval mode with frozen weights, or None where ``uses_teacher`` is False.
        """
