"""Published normalisation constants: mean and standard deviation per channel of pixels in [0, 1]."""

from __future__ import annotations

from typing import Final

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

CIFAR10: Final[Statistics] = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
"""Those of the SRe2L and DC code. Their deviations are means over images; over all pixels it is .247, .244, .262."""

CIFAR100: Final[Statistics] = ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))
"""Those of the DC code; SRe2L's CIFAR-100 teachers used the CIFAR-10 constants."""

TINY_IMAGENET: Final[Statistics] = ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262))
"""Those of SRe2L's Tiny ImageNet teachers."""

MNIST: Final[Statistics] = ((0.1307,), (0.3081,))
FASHION_MNIST: Final[Statistics] = ((0.2861,), (0.3530,))
SVHN: Final[Statistics] = ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))
"""Those of the DC code, all three."""

IMAGENET: Final[Statistics] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Those of torchvision's pretrained weights; GUARD uses them for Imagenette too."""
