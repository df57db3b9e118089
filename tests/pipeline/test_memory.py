"""What a run needs of memory and disk while its distilled set grows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SIDE = 224

NETWORK = """
from torch import nn

def small(classes):
    return nn.Sequential(
        nn.AvgPool2d(32), nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 49, classes)
    )
"""

MEASURE = """
import contextlib, gc, json, sys, threading
from pathlib import Path
from guard_plugins.cli import run
from guard_plugins.pipeline import context
from guard_plugins.runtime.monitor import Monitor

run.keep_freed_memory = lambda: None  # what loading the data took would hide what comes later
peak, disk, over, folder, working = 0, 0, threading.Event(), Path(sys.argv[-1]), []

def memory():
    # What only this process holds: pages of files are the system's, and shared.
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

class Watched(Monitor):
    @contextlib.contextmanager
    def stage(self, name):
        if name == "distill":
            gc.collect()
            working.append(memory())
        with super().stage(name):
            yield
        if name == "students":
            working.clear()

context.Monitor = Watched

def watch():
    global peak, disk
    while not over.wait(0.002):
        if working:
            peak = max(peak, memory() - working[0])
        loops = list(folder.glob("checkpoints/recover-*.safetensors"))
        disk = max(disk, len(loops))

thread = threading.Thread(target=watch)
thread.start()
code = run.main(sys.argv[1:])
over.set()
thread.join()
print(json.dumps({"code": code, "peak": peak, "loops": disk}))
"""


def measured(folder: Path, ipc: int) -> dict[str, int]:
    """Do a run in a process of its own; a few real images and a tiny network, so that little else takes memory."""
    own = folder.parent / "small.py"
    own.write_text(NETWORK)
    options = f"""--method sre2l --dataset digits --data.image-size {SIDE} --data.train-per-class 4 --ipc {ipc}
    --data.test-per-class 1 --teacher.epochs 1 --teacher.batch-size 8 --teacher.network {own}:small --no-guard
    --recover.iterations 2 --recover.batch 20 --student.epochs 1 --student.batch-size 8 --evaluation.images 2
    --student.network {own}:small --evaluation.protocol pgd-1 --checkpoint-every 0.001 --device cpu --output"""
    command = [sys.executable, "-c", MEASURE, *options.split(), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout, done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] == 0, done.stderr
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
def test_memory_grows_by_the_bytes_of_the_images_and_no_finished_item_keeps_its_loop(tmp_path: Path) -> None:
    few, many = measured(tmp_path / "few", 35), measured(tmp_path / "many", 70)
    bytes_of_images = (70 - 35) * 10 * SIDE**2
    assert many["peak"] - few["peak"] <= 1.2 * bytes_of_images, (few, many, bytes_of_images)
    assert max(few["loops"], many["loops"]) <= 3
