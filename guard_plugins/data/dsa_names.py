"""Names of the operations of Siamese augmentation; torch is not imported here, so that options can be checked early."""

from __future__ import annotations

from typing import Final

PUBLISHED_STRATEGY: Final = "color_crop_cutout_flip_scale_rotate"
"""The choice of operations the paper uses for natural images (arXiv 2102.08259)."""
NAMES: Final = tuple(PUBLISHED_STRATEGY.split("_"))


def known_strategy(strategy: str) -> str:
    """Return a strategy, for a field of a plugin's options.

    Raises:
        ValueError: If it names an unknown operation, or none.
    """
    unknown = [name for name in strategy.split("_") if name not in NAMES]
    if unknown:
        raise ValueError(f"no augmentation is called {unknown[0]!r}; join some of {', '.join(NAMES)} with _")
    return strategy
