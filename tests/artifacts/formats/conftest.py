from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from guard_plugins.data.distilled import DistilledSet

MEAN, STD = (0.49, 0.48, 0.44), (0.2, 0.19, 0.21)


def smooth(count: int = 6, side: int = 16, seed: int = 0) -> Tensor:
    """Random images whose neighbouring pixels are alike, as in photographs, over the whole of [0, 1]."""
    coarse = torch.rand((count, 3, 4, 4), generator=torch.Generator().manual_seed(seed))
    images = F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=True)
    return (images - images.min()) / (images.max() - images.min())


@pytest.fixture
def photographs() -> DistilledSet:
    return DistilledSet(smooth(), torch.arange(3).repeat(2))
