"""The settings of how a distillation is watched."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from guard_plugins.config.section import Section


class DistillConfig(Section):
    """Watching the distillation."""

    validate_every: PositiveInt | None = Field(
        None,
        description="every K steps of the method's loops, and at their ends, train a student on the images so far and "
        "attack it on held-out training images (--data.validation-per-class); changes no image. These students are "
        "trained without the hook",
    )
