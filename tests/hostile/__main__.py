"""Counts tracebacks, hangs, wrong exit codes and lost files over generated worlds; any makes the exit code 1.

As a command::

    python -m tests.hostile --configurations 3000 --artifacts 600 --kills 100 --ranks 20
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.hostile.configurations import try_configurations
from tests.hostile.damage import prepare, try_damaged
from tests.hostile.judge import Tally
from tests.hostile.ranks import try_ranks
from tests.pipeline import faults

METHODS = ("sre2l", "cda", "dc", "random")


def kills(count: int, seed: int, folder: Path) -> Tally:
    """Kill runs of several methods, and compare what they end as with uninterrupted ones."""
    tally = Tally()
    for number, method in enumerate(METHODS):
        share = count // len(METHODS) + (number < count % len(METHODS))
        try:
            hit = faults.check(method, share, seed, folder / method, forked=True) if share else {}
        except AssertionError as error:
            tally.faults.append(str(error))
        else:
            for stage, times in hit.items():
                tally.codes[f"{method}, {stage}"] = times
    return tally


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=0)
    parser.add_argument("--artifacts", type=int, default=0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=0, help="kill one of two processes of a run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder, begin = Path(name), time.monotonic()
        if options.configurations:
            found.append(("configurations", try_configurations(options.configurations, options.seed, folder)))
        if options.artifacts:
            found.append(("artifacts", try_damaged(options.artifacts, options.seed, folder, prepare(folder))))
        if options.kills:
            found.append(("kills", kills(options.kills, options.seed, folder)))
        if options.ranks:
            found.append(("ranks", try_ranks(options.ranks, options.seed, folder / "ranks")))
    for kind, tally in found:
        for fault in tally.faults:
            sys.stdout.write(f"FAULT: {fault}\n")
        ends = ", ".join(f"{code}: {count}" for code, count in sorted(tally.codes.items()))
        sys.stdout.write(f"{kind}: {sum(tally.codes.values())} ({ends}); {len(tally.faults)} faults\n")
    sys.stdout.write(f"{time.monotonic() - begin:.0f} s\n")
    return 1 if any(tally.faults for _, tally in found) else 0


if __name__ == "__main__":
    sys.exit(main())
