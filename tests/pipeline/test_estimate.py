"""What a run will take is estimated from a few steps of every kind of loop, and estimating changes nothing."""

from __future__ import annotations

import shutil
import signal
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from guard_plugins import Method, Report
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ArtifactError, TrainingError
from guard_plugins.labels.relabel import bytes_needed, layout_of
from guard_plugins.networks.normalised import Normalised
from guard_plugins.pipeline import console
from guard_plugins.pipeline.planning.estimate import Estimate, estimate_run
from guard_plugins.pipeline.planning.timing import TIMED, Stopwatch
from guard_plugins.runtime.loop import LoopState
from guard_plugins.runtime.seeds import Seeds
from guard_plugins.runtime.signals import StoppedError, StopRequest
from guard_plugins.runtime.task import Task
from guard_plugins.testing.tiny import tiny_task
from tests.pipeline.conftest import numbers

TinyRun = Callable[..., tuple[Report, Path]]


def watch_of(least: int = 1) -> Stopwatch:
    return Stopwatch(torch.device("cpu"), StopRequest(), least)


def drain(watch: Stopwatch, stage: str, total: int, pause: float = 0.0) -> int:
    done = 0
    for _ in watch.steps(stage, total, LoopState(x=torch.zeros(10)), Seeds(0)):
        time.sleep(pause)
        done += 1
    return done


def test_a_loop_is_left_after_a_few_steps_and_the_rest_is_extrapolated() -> None:
    watch = watch_of()
    assert drain(watch, "teacher", 1000, pause=0.02) == TIMED + 1
    assert 20 <= watch.seconds < 60  # 1000 steps of at least 0.02 s
    assert watch.saved == 40


def test_loops_of_one_kind_are_timed_once_and_counted_each() -> None:
    watch = watch_of()
    assert [drain(watch, f"recover/{item}", 100, pause=0.01) for item in range(3)] == [TIMED + 1, 0, 0]
    one = watch_of()
    drain(one, "recover/0", 100, pause=0.01)
    assert watch.seconds == pytest.approx(3 * one.seconds, rel=0.5)
    assert watch.saved == 3 * one.saved


def test_slow_steps_and_short_loops_are_timed_by_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guard_plugins.pipeline.planning.timing.LONGEST", 0.01)
    assert drain(watch_of(), "slow", 100, pause=0.02) == 2
    assert drain(watch_of(least=4), "hooked every fourth step", 100, pause=0.02) == 5
    assert drain(watch_of(), "short", 1) == 1
    assert drain(watch_of(), "none", 0) == 0


def test_past_the_budget_the_estimate_is_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guard_plugins.pipeline.planning.timing.BUDGET", -1.0)
    watch = watch_of()
    assert drain(watch, "teacher", 100) == 0
    assert not watch.complete


@pytest.mark.slow
def test_the_estimate_changes_no_number(
    tiny_run: TinyRun, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "estimate" not in (whole / "events.jsonl").read_text(), "a short run says nothing"
    monkeypatch.setattr("guard_plugins.pipeline.run.announce_estimate", lambda *_: None)
    _, without = tiny_run("sre2l", "without")
    assert numbers(without) == numbers(whole)
    for name in ("teacher.safetensors", "distilled/distilled.safetensors"):
        one, other = load_file(without / name), load_file(whole / name)
        assert all(torch.equal(one[key], other[key]) for key in one), name


@pytest.mark.slow
def test_a_long_run_says_what_it_will_take(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "LONG", 0.0)
    tiny_run("sre2l", "run")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("estimate")]
    assert line.startswith("estimate, from a few timed steps: teacher ")
    for part in (", distill ", ", students ", ", then the attacks; memory ", " GiB; disk ", " MB"):
        assert part in line


def test_a_full_disk_is_found_before_anything_is_trained(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**5))
    with pytest.raises(ArtifactError, match="has no room for this run") as caught:
        tiny_run("sre2l", "run")
    assert "0 MB are free; images, weights and checkpoints take about" in caught.value.seen
    assert "--output" in caught.value.what
    assert not (tmp_path / "run" / "teacher.safetensors").exists()


class Failing(Method):
    """Fails after its first loop."""

    name = "failing"
    summary = "fails"
    rehearsable = True
    error: type[Exception] = ValueError

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        for _ in task.steps("mine", 10, state=LoopState(x=torch.zeros(1))):
            pass
        raise self.error("after the loop")


def test_what_fails_in_a_rehearsal_is_left_to_the_run() -> None:
    estimate = estimate_run(tiny_task(Failing), Failing(Failing.Config()))
    assert not estimate.complete
    assert estimate.sentence().startswith("estimate (at least)")
    assert estimate.seconds["students"] > 0


def test_memory_that_runs_out_in_a_late_stage_is_told_at_once() -> None:
    class Hungry(Failing):
        error = torch.OutOfMemoryError

    with pytest.raises(TrainingError, match="Out of memory") as caught:
        estimate_run(tiny_task(Failing), Hungry(Hungry.Config()))
    assert "--ipc" in caught.value.do


def test_a_loop_that_only_tells_the_monitor_is_left_too(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    class Tracking(Failing):
        def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
            with task.monitor.track("scores", 1000) as bar:
                for item in range(1000):
                    time.sleep(0.02)
                    done.append(item)
                    bar.advance()
            raise AssertionError

    monkeypatch.setattr("guard_plugins.pipeline.planning.timing.LONGEST", 0.1)
    estimate = estimate_run(tiny_task(Failing), Tracking(Tracking.Config()))
    assert len(done) < 20
    assert 20 <= estimate.seconds["distill"] < 80
    assert not estimate.complete


def test_a_method_that_did_not_agree_is_not_called_and_the_estimate_is_a_lower_bound() -> None:
    class Own(Failing):
        rehearsable = False

        def train_teacher(self, task: Task, model: Normalised) -> None:
            raise AssertionError("called")

        def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
            raise AssertionError("called")

    estimate = estimate_run(tiny_task(Failing), Own(Own.Config()))
    assert not estimate.complete
    assert (estimate.seconds["teacher"], estimate.seconds["distill"]) == (0, 0)
    assert estimate.seconds["students"] > 0
    plain = type("Plain", (Failing,), {"rehearsable": False})
    assert estimate_run(tiny_task(Failing), plain(plain.Config())).seconds["teacher"] > 0, (
        "the host's own loop is known"
    )


def test_many_watched_loops_end_with_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    class PerClass(Failing):
        def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
            for label in range(100):
                with task.monitor.track("scores", 2) as bar:
                    for _ in range(2):
                        time.sleep(0.01)
                        bar.advance()
                done.append(label)
            raise AssertionError

    monkeypatch.setattr("guard_plugins.pipeline.planning.timing.BUDGET", 0.2)
    assert not estimate_run(tiny_task(Failing), PerClass(PerClass.Config())).complete
    assert len(done) < 15


def test_slow_steps_end_with_the_budget_whatever_the_hook_s_rhythm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guard_plugins.pipeline.planning.timing.BUDGET", 0.1)
    assert drain(watch_of(least=1000), "teacher", 1000, pause=0.02) < 10


@pytest.mark.parametrize("way", ["steps", "track"])
def test_a_stop_signal_ends_a_rehearsal(way: str) -> None:
    class Asked(Failing):
        def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
            task.keeper.stop.number = signal.SIGTERM
            if way == "track":
                with task.monitor.track("scores", 10) as bar:
                    bar.advance()
            for _ in task.steps("mine", 10, state=LoopState(x=torch.zeros(1))):
                pass
            raise AssertionError

    with pytest.raises(StoppedError):
        estimate_run(tiny_task(Failing), Asked(Asked.Config()))


def test_a_full_gpu_is_nothing_to_a_run_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", full)
    assert drain(watch_of(), "teacher", 10) == TIMED + 1


def test_stored_labels_count_among_what_the_disk_must_hold() -> None:
    online, stored = (
        estimate_run(tiny_task(Failing, settings={"student": {"labels": labels}}), Failing(Failing.Config())).disk
        for labels in ("online", "stored")
    )
    layout = layout_of(tiny_task(Failing))
    assert stored - online == bytes_needed(layout, layout.epochs) > 0


@pytest.mark.parametrize(("seconds", "words"), [(9.0, "9 s"), (720.0, "12 min"), (9000.0, "2.5 h")])
def test_durations_read_well(seconds: float, words: str) -> None:
    estimate = Estimate({"teacher": seconds}, disk=55_000_000, memory={"": 2254857830})
    assert estimate.sentence() == (
        f"estimate, from a few timed steps: teacher {words}, then the attacks; memory 2.1 GiB; disk 55 MB"
    )


def test_a_stage_that_could_not_be_timed_is_not_said_to_take_no_time() -> None:
    estimate = Estimate(seconds={"teacher": 60.0, "students": 0.0}, complete=False)
    assert "teacher 1 min, students not timed, then" in estimate.sentence()
    assert "students 0 s, then" in Estimate(seconds={"students": 0.0}).sentence()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ({"teacher": 300.0, "distill": 100.0, "students": 200.0}, ""),
        ({"teacher": 800.0, "distill": 100.0, "students": 200.0}, "lower --teacher.epochs, or smaller images"),
        ({"teacher": 300.0, "distill": 100.0, "students": 900.0}, "lower --student.epochs"),
        ({"distill": 900.0, "students": 200.0}, "fewer steps of the method (see its --help)"),
    ],
)
def test_a_long_run_is_told_what_takes_less(seconds: dict[str, float], said: str) -> None:
    line = Estimate(seconds).shorter()
    assert said in line
    assert bool(line) == bool(said)
