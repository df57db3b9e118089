"""DC's settings by data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DEFAULTS: Final[Mapping[str, Any]] = {"student": {"network": "convnet3", "protocol": "dc"}}
"""Students as published: ConvNet-3 trained by SGD on hard labels."""

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {}
