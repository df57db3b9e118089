"""The method CDA: SRe2L with a curriculum on the crops of the recovery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from guard_cda.config import CDAConfig
from guard_cda.curriculum import crop_lower_bound
from guard_cda.presets import PRESETS
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

    def crop_scale(self, step: int, total: int) -> float:
        """Return the lower bound of the crop's scale at ``step`` of ``total``."""
        curriculum = self.config.curriculum
        return crop_lower_bound(
            step, total, shape=curriculum.shape, alpha=self.config.recover.crop_scale, milestone=curriculum.milestone
        )
