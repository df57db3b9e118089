"""The options every method shares, with their defaults and help texts; torch is not imported here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    field_validator,
    model_validator,
)
from pydantic_settings import CliToggleFlag

from guard_plugins.config.data import DataConfig
from guard_plugins.config.distill import DistillConfig
from guard_plugins.config.paths import usable_path
from guard_plugins.config.presets import PRESETS
from guard_plugins.config.section import Activation, ForeignWeights, PixelLength, Section
from guard_plugins.config.student import StudentConfig
from guard_plugins.data.base import DataRequest

Level = Literal["quiet", "normal", "verbose"]
DEFAULT_H_RMS = 3.4 / 255
"""The paper's h = 3 in normalised space at 3x32x32, as a root mean square per pixel in [0, 1], with CIFAR-10's own
deviation of 0.247 (2.8/255 with the 0.2 of the published code)."""
RIVAL_WEIGHTS: Final[Mapping[Any, float]] = {"trades": 6.0, "gradient-norm": DEFAULT_H_RMS * (3 * 32 * 32) ** 0.5}
"""Weights of the rivals that have one: TRADES' published beta; the gradient's norm as heavy as the hook's penalty, to
first order, at 3x32x32 pixels."""
OBJECTIVES: Final[Mapping[str, tuple[str, ...]]] = {
    "fgsm-rs": ("eps",),
    "pgd": ("eps", "attack_steps"),
    "trades": ("eps", "attack_steps", "rival_weight"),
    "gradient-norm": ("rival_weight",),
}
"""Options of the section teacher that only these objectives, the rivals of the hook, read."""
OF_PLAIN: Final = ("label_smoothing",)
"""Options of the section teacher that only the objective plain reads."""


class GuardConfig(Section):
    """The curvature hook around the teacher (GUARD, arXiv 2403.10045)."""

    h_rms: PixelLength | None = Field(
        None, description="length of the probe step z as root mean square per pixel in [0, 1]"
    )
    h: PositiveFloat | None = Field(None, description="the same as L2 length over the whole image; excludes h-rms")
    weight: NonNegativeFloat = Field(1.0, description="weight of the term in the teacher's objective")
    penalty: Literal["loss", "gradient"] = Field(
        "loss", description="loss: |loss(x+z) - loss(x)| (the paper); gradient: the CURE form, double backward"
    )
    every: PositiveInt = Field(1, description="apply the term on every k-th optimiser step")

    @model_validator(mode="before")
    @classmethod
    def _one_h(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("h") is None and values.get("h_rms") is None:
            return {**values, "h_rms": DEFAULT_H_RMS}
        return values

    @model_validator(mode="after")
    def _not_both(self) -> GuardConfig:
        if self.h is not None and self.h_rms is not None:
            raise ValueError("give either guard.h or guard.h_rms, not both")
        return self


class TeacherConfig(ForeignWeights):
    """The teacher's network and its supervised training (squeeze)."""

    path: Path | None = Field(
        None,
        description="take the teacher of this run, or the weights in this file, instead of training one (short: "
        "--teacher PATH)",
    )
    cache: Path | None = Field(
        None, description="folder of trained teachers that runs share: take this run's from there, or put it there",
        exclude=True,
    )  # fmt: skip
    network: str = Field("resnet18", description="architecture, see guard-plugins --check for the names")
    activation: Activation = Field("relu", description="activation function")
    epochs: PositiveInt = Field(30, description="passes over the training images")
    batch_size: PositiveInt = Field(128, description="images per step")
    lr: PositiveFloat = Field(0.2, description="peak learning rate of SGD")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum (Nesterov)")
    weight_decay: NonNegativeFloat = Field(5e-4, description="weight decay")
    schedule: Literal["one-cycle", "cosine"] = Field("one-cycle", description="learning-rate schedule, per step")
    augment: str = Field(
        "crop-flip",
        description="none, crop (random, after padding by 1/8 of the width), crop-flip, resized-crop-flip (a random "
        "box, enlarged), or one from a plugin",
    )
    crop_from: Literal["square", "original"] = Field(
        "square",
        description="where resized-crop-flip cuts its boxes. square: in the images as the set has them. original: in "
        "the whole image files, as training on ImageNet is published; they are decoded for every batch",
    )
    batchnorm: Literal["global", "local"] = Field(
        "global",
        description="BatchNorm in several processes (torchrun). global: it takes the statistics of the whole batch, as "
        "in one process. local: those of each process's part of it, which is another network",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each label that is spread over all classes (with --teacher.training plain)",
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of a moving average of the weights, which becomes the teacher (0.99, say, for a thousand "
        "steps or more); 0: the teacher has the last weights",
    )
    training: Literal["plain", "fgsm-rs", "pgd", "trades", "gradient-norm"] = Field(
        "plain", description="plain (under the hook, unless --no-guard) or a rival of the hook, which replaces it"
    )
    eps: PixelLength = Field(8 / 255, description="L-inf radius of the adversarial rivals, in pixels of [0, 1]")
    attack_steps: PositiveInt = Field(10, description="steps of the adversary of pgd and trades")
    rival_weight: NonNegativeFloat | None = Field(
        None, description="beta of trades (default 6); weight of gradient-norm (default 0.74)"
    )

    @field_validator("path", "cache", mode="after")
    @classmethod
    def _usable(cls, path: Path | None) -> Path | None:
        return usable_path(path) if path is not None else None


class EvaluationConfig(Section):
    """The attacks on teacher and students."""

    protocol: str = Field("quick", description="which attacks at which epsilon; quick: PGD-20 along the epsilon curve")
    images: PositiveInt | None = Field(None, description="attack N images only, spread over the set (default: all)")
    eps: tuple[PositiveFloat, ...] | None = Field(
        None, description="radii where the protocol is an attack's name: over 255 in L-inf, in pixels in L2; as 1,2"
    )
    gate: Literal["on", "off"] = Field(
        "on", description="off: skip the release gate, the checks that numbers should pass before they are quoted"
    )
    batch_size: PositiveInt | None = Field(
        None, description="images attacked at a time (default: 500; on a CPU as many as have 131,072 pixels together)"
    )

    @field_validator("eps", mode="before")
    @classmethod
    def _no_fractions(cls, value: Any) -> Any:
        several = value.split(",") if isinstance(value, str) else value
        for one in several if isinstance(several, list | tuple) else ():
            if isinstance(one, str) and one.replace(" ", "").endswith("/255"):
                number = one.partition("/")[0].strip()
                raise ValueError(f"radii in L-inf are over 255 as they stand: write {number} for {number}/255")
        return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


class RunConfig(Section):
    """Everything that decides a run, apart from the method's own options."""

    method: str = Field(description="distillation method, such as sre2l; guard-plugins lists the installed ones")
    dataset: str = Field("digits", description="digits (embedded), cifar10, folder, ... or one from a plugin")
    data_root: Path | None = Field(None, description="folder of the data set's files")
    download: CliToggleFlag[bool] = Field(
        False, description="allow the data set to be downloaded into data-root, and published weights (--teacher)"
    )
    ipc: PositiveInt = Field(10, description="images per class in the distilled set")
    seed: NonNegativeInt = Field(0, description="the one seed all randomness derives from")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to compute")
    preset: str | None = Field(
        None,
        description=f"named settings, over which your own win: {', '.join(PRESETS)}, or one of the method's (default: "
        "the one named like the data set, if there is one)",
    )
    no_guard: CliToggleFlag[bool] = Field(False, description="leave out the curvature hook (the plain method)")
    guard: GuardConfig = Field(GuardConfig(), description="the curvature hook")
    data: DataConfig = Field(DataConfig(), description="reading the images")
    teacher: TeacherConfig = Field(TeacherConfig(), description="the teacher")
    distill: DistillConfig = Field(DistillConfig(), description="watching the distillation")
    student: StudentConfig = Field(StudentConfig(), description="the students")
    keep_students: CliToggleFlag[bool] = Field(
        False, description="leave the students' weights in the run's folder, below students/"
    )
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="the attacks")
    plugin: tuple[Path, ...] = Field(
        (),
        description="file of Python code that brings a method, data set, network or the like; may be given repeatedly",
    )
    log: Literal["tensorboard"] | None = Field(
        None, description="also write the numbers of every loop as TensorBoard files into the run's folder",
        exclude=True,
    )  # fmt: skip
    checkpoint_every: PositiveFloat = Field(
        300.0, description="seconds between two saves of a running loop, from which --resume goes on", exclude=True
    )
    output: Path | None = Field(
        None, description="folder of the run (default runs/<method>-<dataset>-<time>)", exclude=True
    )

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    _given: type[Any] | None = PrivateAttr(None)  # the method's class, where it was not given by name

    @property
    def guarded(self) -> bool:
        """Whether the curvature hook is on: neither switched off nor replaced by a rival."""
        return not self.no_guard and self.teacher.training == "plain"

    def data_request(self) -> DataRequest:
        """Return what is asked of the data set."""
        asked = self.data.model_dump(exclude={"validation_per_class"})
        asked |= {"memory": self.data.memory, "cache": self.data.cache}
        if self.data.validation_per_class and self.data.train_per_class:
            asked["train_per_class"] += self.data.validation_per_class
        return DataRequest(root=self.data_root, download=self.download, **asked)

    @field_validator("plugin", mode="after")
    @classmethod
    def _found_from_anywhere(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(usable_path(path).absolute() for path in paths))

    @field_validator("data_root", "output", mode="after")
    @classmethod
    def _usable(cls, path: Path | None) -> Path | None:
        return usable_path(path) if path is not None else None


BEFORE: Final[Mapping[tuple[str, str], Any]] = {
    ("teacher", "batchnorm"): "global",
    ("teacher", "crop_from"): "square",
    ("teacher", "label_smoothing"): 0.0,
    ("teacher", "ema"): 0.0,
    ("student", "guard_weight"): 0.0,
    ("student", "guard_h_rms"): None,
    ("student", "feature_weight"): 0.0,
}
"""Options that came later, by section and name, with what they have to be for a run to be the one that it was before.
Fingerprints leave such values out, and comparisons take them for those of earlier runs, so that these go on."""
