"""The clocks that benchmarks can measure with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Literal

Clock = Literal["wall", "cpu"]
CLOCKS: Final[Mapping[Clock, Callable[[], float]]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""Wall-clock time, or processor time of all threads, which other work on the machine hardly changes."""
