"""Kill the real command at random points, resume it until it is done, and compare with an uninterrupted run.

As a command::

    python -m tests.pipeline.faults --method sre2l --kills 50

A tiny digits job by default; everything after ``--`` goes to guard-run instead.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors.torch import load_file

TINY = ("--ipc", "2", "--student.epochs", "40", "--evaluation.images", "40")
OWN = {
    "sre2l": ("--teacher.epochs", "4", "--recover.iterations", "150"),
    "cda": ("--teacher.epochs", "4", "--recover.iterations", "150"),
    "dc": ("--match.iterations", "20"),
}

IMPORTED = (
    "guard_plugins.pipeline.run", "guard_plugins.cli.run", "guard_plugins.cli.show", "guard_plugins.report.write",
    "guard_sre2l", "guard_cda", "guard_dc", "guard_baselines", "accelerate", "PIL.Image",
)  # fmt: skip
"""What every start imports."""

BEFORE = "before the first stage"
EVENTS = "events.jsonl"
SAVED = ("stages.json", "checkpoints/*.safetensors")


def guard_run(*arguments: str) -> list[str]:
    """Return the real command."""
    return [sys.executable, "-m", "guard_plugins.cli.run", *arguments]


class Forked:
    """The command in a copy of this process, as a :class:`subprocess.Popen` that needs no seconds for its imports."""

    def __init__(self, arguments: list[str], err: TextIO) -> None:
        for module in IMPORTED:
            importlib.import_module(module)
        self.returncode: int | None = None
        self._pid = os.fork()
        if not self._pid:
            code = 1
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(err.fileno(), 2)
                code = importlib.import_module("guard_plugins.cli.run").main(arguments)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def poll(self) -> int | None:
        """Return how it ended, or None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = 1800) -> int:
        """Wait until it has ended."""
        last = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > last:
                raise subprocess.TimeoutExpired("guard-run", timeout)
            time.sleep(0.01)
        return code

    def kill(self) -> None:
        """Kill it."""
        os.kill(self._pid, signal.SIGKILL)


@dataclass(frozen=True)
class Timeline:
    """When the stages of an uninterrupted run began, in seconds since it went to work, and when it ended."""

    stages: dict[str, float]
    end: float

    @classmethod
    def of(cls, folder: Path) -> Timeline:
        """Read it from the events of a run."""
        events = [json.loads(line) for line in (folder / EVENTS).read_text().splitlines()]
        start = events[0]["time"]
        stages = {event["stage"]: event["time"] - start for event in events if event["event"] == "stage begins"}
        return cls({BEFORE: 0.0, **stages}, events[-1]["time"] - start)

    def targets(self, kills: int, rng: random.Random) -> list[str]:
        """Return the stages at random moments of the run, in order."""
        moments = sorted(rng.uniform(0, self.end) for _ in range(kills))
        return [[stage for stage, begin in self.stages.items() if begin <= moment][-1] for moment in moments]

    def left(self, stage: str) -> float:
        """Return the seconds from the beginning of a stage to the end of the run."""
        return self.end - self.stages[stage]

    def reached(self, folder: Path, stage: str) -> bool:
        """Return whether a run is at a stage or past it."""
        order = list(self.stages)
        return order.index(stage_of(folder)) >= order.index(stage)


def uninterrupted(folder: Path, arguments: list[str]) -> Timeline:
    """Do the run without a fault."""
    subprocess.run(guard_run(*arguments, "--output", str(folder)), check=True, capture_output=True)
    return Timeline.of(folder)


def interrupted(
    folder: Path, arguments: list[str], timeline: Timeline, targets: list[str], rng: random.Random,
    pace: float = 1.0, forked: bool = False,
) -> list[str]:  # fmt: skip
    """Kill and resume one run until it ends, at most once for every target; return the stages that were hit.

    A process may go on to the stage that is the target, and is killed at random up to ``2 / kills`` of the run's time
    after it started (one in ten), went to work (four) or first saved something (five): without the last, kills at a
    high cadence on a busy machine would never let a run get on. Late stages have no more time than is left. ``pace``
    shortens these times, for a machine that has become quicker since the run they were measured on.
    """
    hit: list[str] = []
    log = folder.with_suffix(".log")
    window = max(1.0, 2 * timeline.end / len(targets))
    while True:
        begun = (folder / "config.yaml").exists()
        given = ["--resume", str(folder)] if begun else [*arguments, "--output", str(folder)]
        with log.open("w") as err:
            process = _started([*given, "--checkpoint-every", "1"], err, forked)
        if len(hit) < len(targets):
            while process.poll() is None and not timeline.reached(folder, targets[len(hit)]):
                time.sleep(0.02)
            _wait_for_change(process, rng.choices([(), (EVENTS,), SAVED], weights=[1, 4, 5])[0], folder)
        try:
            most = min(window, timeline.left(targets[len(hit)])) if len(hit) < len(targets) else 0
            process.wait(timeout=rng.uniform(0, pace * most) if most else 1800)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            hit.append(stage_of(folder))
            continue
        if process.returncode:
            raise AssertionError(f"after {len(hit)} kills: exit code {process.returncode}\n{log.read_text()}")
        return hit


def _started(arguments: list[str], err: TextIO, forked: bool) -> subprocess.Popen[bytes] | Forked:
    if forked:
        return Forked(arguments, err)
    return subprocess.Popen(guard_run(*arguments), stdout=subprocess.DEVNULL, stderr=err)


def _wait_for_change(process: subprocess.Popen[bytes] | Forked, patterns: tuple[str, ...], folder: Path) -> None:
    """Wait until the process writes to a file of these patterns in the run's folder, or ends; not at all for none."""

    def written() -> list[tuple[Path, int]]:
        return [(path, path.stat().st_mtime_ns) for pattern in patterns for path in folder.glob(pattern)]

    before = written()
    while patterns and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # renamed between the listing and the look
            if written() != before:
                return
        time.sleep(0.02)


def stage_of(folder: Path) -> str:
    """Return the stage a killed run was in, from its events."""
    events = folder / EVENTS
    stage = BEFORE
    for line in events.read_text().splitlines() if events.exists() else []:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the line a kill cut off
        if event["event"] == "stage begins":
            stage = event["stage"]
    return stage


def differences(one: Path, other: Path) -> list[str]:
    """Return what differs between two finished runs, times aside."""
    found = []
    reports: list[dict[str, Any]] = [json.loads((folder / "report.json").read_text()) for folder in (one, other)]
    for report in reports:
        del report["seconds"], report["saves"]
    if reports[0] != reports[1]:
        found.append("report.json")
    for name in ("teacher.safetensors", "distilled/distilled.safetensors"):
        paths = [folder / name for folder in (one, other)]
        if not paths[0].exists():
            continue
        tensors = [load_file(path) for path in paths]
        found += [f"{name}: {key}" for key in tensors[0] if not torch.equal(tensors[0][key], tensors[1][key])]
    found += [f"left behind: {path}" for path in other.rglob("*") if path.suffix == ".part" or path.name == ".lock"]
    if (other / "checkpoints").exists():
        found.append("left behind: checkpoints")
    return found


def check(
    method: str, kills: int, seed: int, folder: Path, extra: tuple[str, ...] = (), *, forked: bool = False
) -> Counter[str]:
    """Compare runs with faults to one without, and return how often each stage was hit.

    The kills are spread over one run; where it ends before they are spent, over as many as it takes, each time sooner
    after a start where a run ended without one. ``forked`` saves the imports of every start.

    Raises:
        AssertionError: If they differ, anything is left behind, or a resumed run fails.
    """
    arguments = ["--method", method, *(extra or (*TINY, *OWN.get(method, ())))]
    timeline, hit, rng = uninterrupted(folder / "whole", arguments), Counter[str](), random.Random(seed)
    targets, pace = timeline.targets(kills, rng), 1.0
    for attempt in itertools.count():
        if hit.total() == kills:
            return hit
        if attempt > 2 * kills + 10:
            raise AssertionError(f"{method}: {attempt} runs ended before {kills} kills were spent; hit {dict(hit)}")
        killed = folder / f"killed-{attempt}"
        found_now = interrupted(killed, arguments, timeline, targets[hit.total() :], rng, pace, forked)
        pace = pace if found_now else pace / 2
        hit.update(found_now)
        found = differences(folder / "whole", killed)
        if found:
            raise AssertionError(f"{method}: the resumed run differs: {', '.join(found)}; kills hit {dict(hit)}")
    raise AssertionError


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="sre2l")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("extra", nargs="*", help="options of guard-run, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        hit = check(options.method, options.kills, options.seed, Path(folder), tuple(options.extra))
    sys.stdout.write(f"{options.method}: {options.kills} kills, identical; hit: {dict(hit)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
