"""The method CDA: SRe2L with a curriculum on the crops of the recovery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from guard_cda.config import CDAConfig
from guard_cda.curriculum import crop_lower_bound
from guard_cda.presets import PRESETS
from guard_plugins.config import RunConfig
from guard_plugins.method import MethodConfig
from guard_sre2l.method import SRe2L


class CDA(SRe2L):
    """Curriculum data augmentation (Yin & Shen, TMLR 2024, arXiv 2311.18838)."""

    name = "cda"
    summary = "SRe2L with a curriculum from whole images to small crops (arXiv 2311.18838)"
    rehearsable = True
    Config: ClassVar[type[MethodConfig]] = CDAConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    config: CDAConfig

    @classmethod
    def idle(cls, config: RunConfig) -> Mapping[str, str]:
        """Return the options that do nothing beside the others."""
        found = dict(super().idle(config))
        if config.recover.crop_scale == 1:  # type: ignore[attr-defined]
            why = "--recover.crop-scale 1 crops nothing, so there is no curriculum"
            found |= {"curriculum.shape": why, "curriculum.milestone": why}
        elif config.curriculum.milestone == 0:  # type: ignore[attr-defined]
            found["curriculum.shape"] = "with --curriculum.milestone 0 there is no curriculum"
        return found

    def crop_scale(self, step: int, total: int) -> float:
        """Return the lower bound of the crop's scale at ``step`` of ``total``."""
        curriculum = self.config.curriculum
        return crop_lower_bound(
            step, total, shape=curriculum.shape, alpha=self.config.recover.crop_scale, milestone=curriculum.milestone
        )
