"""Kill or stop one of several processes of a run at random points, go on with any number, and compare what is left."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.hostile.judge import Tally
from tests.pipeline.launch import launched
from tests.pipeline.test_shares import hashes

OPTIONS = """--method sre2l --dataset digits --device cpu --ipc 1 --teacher.network convnet3-bn
--data.train-per-class 20 --teacher.epochs 10 --teacher.batch-size 40 --recover.iterations 20 --recover.batch 5
--student.epochs 4 --evaluation.images 10 --evaluation.gate off --checkpoint-every 0.2"""
SIZE = 2
SLOWEST = 10.0
"""Seconds in which a signal to one process must have ended all."""


def try_ranks(count: int, seed: int, folder: Path) -> Tally:
    """Kill one process at ``count`` points, and stop one at a quarter as many."""
    tally, rng = Tally(), random.Random(seed)
    with launched(folder / "logs", SIZE, *OPTIONS.split(), "--output", str(folder / "whole")) as processes:
        assert processes.codes() == [0] * SIZE, processes.said()
    events = [json.loads(line) for line in (folder / "whole" / "events.jsonl").read_text().splitlines()]
    length = float(events[-1]["time"]) - float(events[0]["time"])
    for number in range(count + count // 4):
        kind = signal.SIGKILL if number < count else signal.SIGTERM
        where = folder / str(number)
        try:
            stage = _interrupted(where, kind, rng, length)
            seen = f"{kind.name}, {stage}"
            tally.codes[seen] = tally.codes.get(seen, 0) + 1
            _go_on(where, rng, folder / "whole")
        except (AssertionError, subprocess.TimeoutExpired) as error:
            tally.faults.append(f"point {number}: {error}")
            sys.stderr.write(f"{tally.faults[-1]}\n")  # at once: all points take long
        shutil.rmtree(where)
    return tally


def _interrupted(where: Path, kind: signal.Signals, rng: random.Random, length: float) -> str:
    """Interrupt one process of a new run at a random moment of its work; return the stage it was in."""
    run, rank, moment = where / "run", rng.randrange(SIZE), rng.uniform(0, length)
    with launched(where / "logs", SIZE, *OPTIONS.split(), "--output", str(run)) as processes:
        processes.until((run / "events.jsonl").exists)
        time.sleep(moment)
        stage, begin = _stage(run), time.monotonic()
        processes.processes[rank].send_signal(kind)
        if kind == signal.SIGKILL:
            processes.processes[rank].wait()  # as a launcher does at once
        codes, seconds = processes.codes(), time.monotonic() - begin
        said = processes.said()
    expected = [128 + kind] * SIZE if kind == signal.SIGTERM else [-kind if r == rank else 75 for r in range(SIZE)]
    ended = [0 if code in (-kind, -signal.SIGTERM) else code for code in codes] == [0] * SIZE  # it came after the end
    assert codes == expected or ended, f"{kind.name} to process {rank} in {stage}: exit codes {codes}\n{said}"
    assert seconds < SLOWEST, f"{kind.name} to process {rank} in {stage}: all ended after {seconds:.1f} s"
    assert not list(run.rglob("*.part")) or kind == signal.SIGKILL, "a stopped run left a half-written file"
    return f"{stage}, process {rank}"


def _go_on(where: Path, rng: random.Random, whole: Path) -> None:
    """Finish the run with as many processes, and with another number; a teacher of the same number is the same."""
    other, known = rng.choice([1, 3, 4]), hashes(whole)
    for size in (SIZE, other):
        run = Path(shutil.copytree(where / "run", where / f"with-{size}"))
        had = (run / "stages.json").exists() and "teacher" in json.loads((run / "stages.json").read_text())
        with launched(where / f"logs-{size}", size, "--resume", str(run)) as processes:
            codes = processes.codes()
            assert codes == [0] * size, f"resumed with {size}: exit codes {codes}\n{processes.said()}"
        if size == SIZE or had:
            found = hashes(run)
            apart = [name for name in known if found.get(name) != known[name]]
            assert not apart, f"resumed with {size}: other bits in {apart}"


def _stage(run: Path) -> str:
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines() if line.endswith("}")]
    begun = [str(event["stage"]) for event in events if event["event"] == "stage begins"]
    return begun[-1] if begun else "before the first stage"
