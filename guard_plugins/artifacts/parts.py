"""What the parts of a report are made of: numbers that a run could have written."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from guard_plugins.artifacts.reading import first_problem
from guard_plugins.config.schema import GuardConfig

Count = PositiveInt
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[float, Field(ge=0)]


def _guard(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the hook as they are, if they could be a run's.

    Raises:
        ValueError: If they could not.
    """
    try:
        GuardConfig.model_validate(settings, strict=True)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None
    return settings


Guard = Annotated[dict[str, Any], AfterValidator(_guard)]
"""Settings of the curvature hook, as a configuration holds them."""


class Part(BaseModel):
    """Base of the report's parts: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Validation(Part):
    """A student on what a method had while it was distilling, attacked on held-out training images.

    Attributes:
        loop: Name of the method's loop.
        step: Finished steps of the loop.
        steps: All of its steps.
        distilled: Stored images that the student learned from.
        images: Held-out training images.
        clean: Fraction of them classified correctly.
        attack: Label of the attack.
        eps: Its radius in pixel units.
        robust: Fraction classified correctly before and after the attack.
        seconds: What it took.
    """

    loop: str
    step: Count
    steps: Count
    distilled: Count
    images: Count
    clean: Share
    attack: str
    eps: Size
    robust: Share
    seconds: Size


class HookReport(Part):
    """What the curvature hook did and measured while it was active.

    Attributes:
        steps: Optimiser steps seen.
        regularised_steps: Steps that carried the term.
        mean_loss: Mean of the plain loss over regularised steps.
        mean_term: Mean of the term.
        mean_gradient_norm: Mean L2 norm of the per-sample input gradient.
        mean_curvature: Mean curvature of the loss along z.
    """

    steps: NonNegativeInt
    regularised_steps: NonNegativeInt
    mean_loss: float
    mean_term: float
    mean_gradient_norm: float
    mean_curvature: float
