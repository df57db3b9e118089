"""The options of CDA: SRe2L's, and the curriculum on the crop scale."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from guard_sre2l.config import SRe2LConfig


class CurriculumConfig(BaseModel):
    """How the crop's lower bound falls from 1 to ``recover.crop_scale``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    shape: Literal["step", "linear", "cosine"] = Field("cosine", description="shape of the fall (published: cosine)")
    milestone: float = Field(
        1.0, ge=0, le=1,
        description="share of the steps after which the bound is at its end (published runs: 1; 0 is SRe2L)",
    )  # fmt: skip


class CDAConfig(SRe2LConfig):
    """The options of CDA; ``recover.crop_scale`` is where its curriculum ends."""

    curriculum: CurriculumConfig = Field(CurriculumConfig(), description="the curriculum on the crop's scale")
