"""Full searches for garbage are rare in a command, and as before after it."""

from __future__ import annotations

import gc
import subprocess
import sys

from guard_plugins.runtime.garbage import RARER, few_full_searches

AT_THE_END = """
import atexit, gc
from guard_plugins.runtime.garbage import few_full_searches
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # the last that is called
with few_full_searches():
    pass
print(gc.get_freeze_count())
"""


def test_full_searches_are_rarer_in_the_body_only() -> None:
    before = gc.get_threshold()
    with few_full_searches():
        within = gc.get_threshold()
    assert within == (*before[:2], RARER * before[2])
    assert gc.get_threshold() == before


def test_the_search_at_the_end_passes_over_what_is_there() -> None:
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True"]
