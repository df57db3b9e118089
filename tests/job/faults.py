"""Kill the real command at random points, resume it until it is done, and compare with an uninterrupted run.

As a command::

    python -m tests.job.faults --method sre2l --kills 50

A tiny digits job by default; everything after ``--`` goes to guard-run instead.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

TINY = ("--ipc", "2", "--teacher.epochs", "4", "--student.epochs", "40", "--evaluation.images", "40")
OWN = {
    "sre2l": ("--recover.iterations", "150"),
    "cda": ("--recover.iterations", "150"),
    "dc": ("--match.iterations", "20"),
}


def guard_run(*arguments: str) -> list[str]:
    """Return the real command."""
    return [sys.executable, "-m", "guard_plugins.cli.run", *arguments]


def uninterrupted(folder: Path, arguments: list[str]) -> float:
    """Do the run without a fault and return its duration in seconds."""
    start = time.monotonic()
    subprocess.run(guard_run(*arguments, "--output", str(folder)), check=True, capture_output=True)
    return time.monotonic() - start


def interrupted(folder: Path, arguments: list[str], kills: int, longest: float, rng: random.Random) -> Counter[str]:
    """Kill and resume the run ``kills`` times, let it finish, and return how often each stage was hit."""
    hit: Counter[str] = Counter()
    for number in range(kills + 1):
        begun = (folder / "config.yaml").exists()
        command = guard_run("--resume", str(folder)) if begun else guard_run(*arguments, "--output", str(folder))
        process = subprocess.Popen(
            [*command, "--checkpoint-every", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            _, err = process.communicate(timeout=rng.uniform(0.15, 0.8) * longest if number < kills else 600)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            hit[stage_of(folder)] += 1
            continue
        if process.returncode:
            raise AssertionError(f"kill {number}: exit code {process.returncode}\n{err}")
        hit["none, it had finished"] += number < kills
    return hit


def stage_of(folder: Path) -> str:
    """Return the stage a killed run was in, from its events."""
    events = folder / "events.jsonl"
    stage = "before the run"
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
        report.pop("seconds")
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


def check(method: str, kills: int, seed: int, folder: Path, extra: tuple[str, ...] = ()) -> Counter[str]:
    """Compare a run with faults to one without.

    Raises:
        AssertionError: If they differ, anything is left behind, or a resumed run fails.
    """
    arguments = ["--method", method, *(extra or (*TINY, *OWN.get(method, ())))]
    longest = uninterrupted(folder / "whole", arguments)
    hit = interrupted(folder / "killed", arguments, kills, longest, random.Random(seed))
    found = differences(folder / "whole", folder / "killed")
    if found:
        raise AssertionError(f"{method}: the resumed run differs: {', '.join(found)}; kills hit {dict(hit)}")
    return hit


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
