"""The options of the students."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from guard_plugins.config.section import Activation, PixelLength, Section


class StudentConfig(Section):
    """The students trained on the distilled set."""

    network: str | None = Field(None, description="architecture (default: the teacher's)")
    activation: Activation | None = Field(None, description="activation function (default: the teacher's)")
    count: PositiveInt = Field(1, description="students per kind, each from its own seed; reports give mean and sd")
    protocol: str = Field(
        "one-cycle",
        description="training recipe: one-cycle, sre2l, sre2l-cifar, sre2l-tiny, dc, modern, gift, or one from a "
        "plugin; the options below take their default from it",
    )
    labels: Literal["online", "stored", "own"] = Field(
        "online",
        description="soft labels. online: the teacher computes them at every step. stored (FKD): the teacher computes "
        "those of all epochs before the first student; epochs x images x (2 x classes + 4 to 17) bytes on disk. own: "
        "those that the method returns with its images, if it does",
    )
    epochs: PositiveInt | None = Field(None, description="passes over the distilled images")
    batch_size: PositiveInt | None = Field(None, description="images per step")
    lr: PositiveFloat | None = Field(None, description="peak or initial learning rate")
    weight_decay: NonNegativeFloat | None = Field(None, description="weight decay")
    temperature: PositiveFloat | None = Field(None, description="temperature T of the soft labels")
    mixup: NonNegativeFloat | None = Field(None, description="alpha of MixUp's Beta(alpha, alpha); 0 turns it off")
    cutmix: NonNegativeFloat | None = Field(None, description="alpha of CutMix, which takes the place of MixUp")
    augment: str | None = Field(None, description="as --teacher.augment")
    guard_weight: NonNegativeFloat = Field(
        0.0,
        description="train the students under the curvature hook, too, with this weight. Reports show such students in "
        "rows of their own; compare methods without the option",
    )
    guard_h_rms: PixelLength | None = Field(
        None,
        description="length of the students' probe step (default: --guard.h-rms; in guard-eval that of the teacher, "
        "else the preset's)",
    )
    feature_weight: NonNegativeFloat = Field(
        0.0,
        description="weight of a loss by which students on soft labels match the teacher's features, too (RRM): the "
        "input of its last linear layer. Reports and comparisons as with --student.guard-weight",
    )
