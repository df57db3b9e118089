"""How long the same run takes in two installations, by stage: ``python -m examples.benchmarks.versions``.

The two take turns, so that whatever else slows the machine slows both. The earlier one has an environment of its own::

    git worktree add ../before COMMIT
    python -m venv ../before-env && ../before-env/bin/pip install ../before
    python -m examples.benchmarks.versions --before ../before-env/bin/guard-run -- --method sre2l
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from examples.benchmarks.stored import store

HERE: Final = Path(sys.executable).with_name("guard-run")
Seconds = Mapping[str, float]
"""``wall``, ``user`` (processor time), the stages by name, and ``rest``: start, imports and pages."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Time both in turn and print the medians, and the ratio of after to before, of every stage."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.benchmarks.versions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--before", type=Path, required=True, help="guard-run of the earlier installation")
    parser.add_argument("--after", type=Path, default=HERE, help="guard-run of the later one (default: this one's)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; medians count (default: 3)")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("run", nargs="+", metavar="ARGUMENT", help="what guard-run is called with, after --")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: one round is the least")
    contenders = {"before": options.before.absolute(), "after": options.after.absolute()}
    for command in contenders.values():
        if not command.is_file():
            parser.error(f"there is no {command}: name the guard-run of an installation")
    rounds: dict[str, list[Seconds]] = {name: [] for name in contenders}
    made_by: dict[str, Mapping[str, Any]] = {}
    for number in range(options.rounds):
        for name, command in contenders.items():
            seconds, made_by[name] = timed(command, options.run)
            rounds[name].append(seconds)
            sys.stderr.write(f"round {number + 1} of {options.rounds}, {name}: {rounds[name][-1]['wall']:.1f} s\n")
    found = {name: medians(known) for name, known in rounds.items()}
    sys.stdout.write(table(found["before"], found["after"]))
    if options.json:
        ratio = ratios(found["before"], found["after"])
        results = {"made_by": made_by, "runs": rounds, "medians": found, "ratio": ratio}
        store(options.json, "examples.benchmarks.versions", arguments, results, device=torch.device("cpu"))
    return 0


def timed(command: Path, arguments: Sequence[str]) -> tuple[Seconds, Mapping[str, Any]]:
    """Do a run in a folder that is thrown away; return how long it took, and what it says of its versions and machine.

    Args:
        command: ``guard-run``.
        arguments: What it is called with; ``--output`` is added.

    Raises:
        SystemExit: If the run failed; its last lines are in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        output, user = Path(folder, "run"), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        started = time.perf_counter()
        run = subprocess.run(
            [command, *arguments, "--output", output], check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        wall = time.perf_counter() - started
        user = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - user
        if run.returncode:
            raise SystemExit(f"error: {command} ended with {run.returncode}:\n{run.stdout[-2000:]}")
        stages = json.loads((output / "report.json").read_text(encoding="utf-8"))["seconds"]
        manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
    seconds = {"wall": wall, "user": user, **stages, "rest": wall - sum(stages.values())}
    return seconds, {name: manifest.get(name) for name in ("versions", "machine")}


def medians(runs: Sequence[Seconds]) -> Seconds:
    """Return the median of what all ``runs`` have."""
    shared = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: statistics.median(run[name] for run in runs) for name in shared}


def ratios(before: Seconds, after: Seconds) -> Seconds:
    """Return after divided by before, of what both have and the earlier one took time for."""
    return {name: after[name] / before[name] for name in before if before[name] and name in after}


def table(before: Seconds, after: Seconds) -> str:
    """Return the numbers as lines; a stage that only one of the two has is a dash in the other."""
    ratio, names = ratios(before, after), dict.fromkeys([*before, *after])
    lines = [f"{'':12}{'before':>9}{'after':>9}{'ratio':>9}"]
    lines += [
        f"{name:12}{_cell(before, name, '.1f', 's')}{_cell(after, name, '.1f', 's')}{_cell(ratio, name, '.2f')}"
        for name in names
    ]
    return "\n".join(lines) + "\n"


def _cell(numbers: Seconds, name: str, form: str, unit: str = "") -> str:
    return f"{format(numbers[name], form) + unit if name in numbers else '–':>9}"


if __name__ == "__main__":
    raise SystemExit(main())
