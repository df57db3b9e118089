"""A second process takes items of a run, changes nothing in it, and is not needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from guard_plugins import configure
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ConfigError
from guard_plugins.host.configure import host_of
from guard_plugins.method import Method
from guard_plugins.pipeline.cores import Beside, Cores
from guard_plugins.pipeline.preparation import Prepared, prepare
from guard_plugins.pipeline.run import start
from guard_plugins.runtime.sharing.claims import runs
from guard_plugins.runtime.sharing.helpers import threads
from guard_plugins.runtime.task import Task
from tests.pipeline.conftest import numbers
from tests.pipeline.test_shares import hashes

WAIT = 120.0


class Grey(Method):
    """A method that no file holds for other processes."""

    name = "grey-of-tests"
    uses_teacher = False
    labels = "hard"

    def distill(self, task: Task, teacher: nn.Module | None) -> DistilledSet:
        raise NotImplementedError


def prepared(**settings: object) -> Prepared:
    config = configure("noise", device="cpu", ipc=1, **settings)
    return prepare(config, host_of(config))


def test_cores_follow_from_threads_and_images() -> None:
    small = prepared()
    with threads(1):
        assert Cores.of(small, None) == Cores(1, True)
        assert Cores.of(small, 3) == Cores(3, True)
    with threads(2):
        assert Cores.of(small, None) == Cores(2, True)
        assert Cores.of(small, 1) == Cores(1, True)
        assert Cores.of(prepared(data={"image_size": 32}), None) == Cores(2, False)
        assert Cores.of(prepared(data={"image_size": 65}), None) == Cores(1, False)
        assert torch.get_num_threads() == 2


def test_a_class_has_no_second_process() -> None:
    config = configure(Grey, device="cpu", ipc=1)
    found = prepare(config, host_of(config))
    with threads(2):
        assert Cores.of(found, None).processes == 1
    with pytest.raises(ConfigError, match="is a class that other processes do not have, so the run has one process"):
        Cores.of(found, 2)


def test_a_process_that_cannot_begin_is_a_warning(tmp_path: Path) -> None:
    tiny = {"ipc": 1, "student": {"epochs": 2}, "evaluation": {"images": 20}, "device": "cpu"}
    said: dict[str, list[str]] = {"alone": [], "lost": []}
    for name, beside in (("alone", None), ("lost", Beside(2, "no.such.module"))):
        config = configure("noise", **tiny, output=tmp_path / name)
        texts = said[name]
        start(config, beside=beside, callback=lambda event, texts=texts: texts.append(str(event.get("text", ""))))
    warned = [text for text in said["lost"] if "second process" in text]
    assert len(warned) == 1
    assert "ended with exit code 1, and the run goes on without it" in warned[0]
    assert "no.such.module" in warned[0] or "No module named 'no'" in warned[0]
    assert not [text for text in said["alone"] if "second process" in text]
    assert hashes(tmp_path / "lost") == hashes(tmp_path / "alone")
    assert numbers(tmp_path / "lost") == numbers(tmp_path / "alone")


OPTIONS = [
    "--method=sre2l", "--dataset=digits", "--device=cpu", "--ipc=2", "--teacher.epochs=2", "--recover.iterations=200",
    "--student.epochs=300", "--student.batch-size=10", "--evaluation.images=150",
]  # fmt: skip


def begun(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "guard_plugins.cli.run", *OPTIONS, *options, "--output", str(folder)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "2"})


def made_by_the_run(folder: Path) -> int:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return len([event for event in events if str(event.get("loop", "")).startswith("item/attack/")])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beside") / "alone"
    assert begun(folder, "--processes", "1").wait() == 0
    return folder


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    assert begun(folder).wait() == 0
    assert hashes(folder) == hashes(alone)
    assert numbers(folder) == numbers(alone)
    assert made_by_the_run(folder) < 21  # the second process made the rest
    assert not (folder / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_takes_the_second_process_along(number: signal.Signals, alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    process = begun(folder)
    end = time.monotonic() + WAIT
    helper = 0
    while not helper and time.monotonic() < end:
        assert process.poll() is None
        claims = [json.loads(path.read_text() or "{}") for path in folder.glob("checkpoints/item-attack-*.claim")]
        helper = next((int(said["process"]) for said in claims if said.get("process") not in (None, process.pid)), 0)
        time.sleep(0.01)
    assert helper
    process.send_signal(number)
    assert process.wait() == (-9 if number == signal.SIGKILL else 143)
    while runs(helper) and time.monotonic() < end:
        time.sleep(0.05)
    assert not runs(helper)
    command = [sys.executable, "-m", "guard_plugins.cli.run", "--resume", str(folder)]
    assert subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "2"}).returncode == 0
    assert hashes(folder) == hashes(alone)
    assert numbers(folder) == numbers(alone)
