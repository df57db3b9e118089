"""The settings of how images are read."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from pydantic_settings import CliToggleFlag

from guard_plugins.config.paths import usable_path
from guard_plugins.config.section import Section


class DataConfig(Section):
    """How the images are read."""

    image_size: PositiveInt | None = Field(
        None, le=4096, description="resize to this many pixels a side (default: as they are)"
    )
    train_per_class: PositiveInt | None = Field(None, description="use at most this many training images per class")
    test_per_class: PositiveInt | None = Field(None, description="use at most this many test images per class")
    skip_corrupt: CliToggleFlag[bool] = Field(
        False, description="leave out image files that cannot be read, and count them (reads every file once more)"
    )
    split: float | None = Field(
        None, gt=0, lt=1, description="hold this share of every class out as test images, where a folder has none"
    )
    range: tuple[float, float] | None = Field(
        None, description="LOW HIGH: the numbers that are black and white in images deeper than 8 bits (0 65535)"
    )
    reduced_decode: CliToggleFlag[bool] = Field(
        False,
        description="decode JPEGs of at least twice the size asked at 1/2, 1/4 or 1/8 (faster, slightly other pixels)",
    )
    memory: PositiveFloat = Field(
        4.0,
        description="GiB of decoded images to hold in memory; larger sets are decoded every time",
        exclude=True,
    )
    cache: Path | None = Field(
        None, description="folder for decoded images: each set is decoded once and read from there by every run",
        exclude=True,
    )  # fmt: skip
    validation_per_class: PositiveInt | None = Field(
        None,
        description="hold out this many more training images per class, and evaluate on these, not the test images",
    )

    @field_validator("cache", mode="after")
    @classmethod
    def _usable(cls, path: Path | None) -> Path | None:
        return usable_path(path) if path is not None else None
