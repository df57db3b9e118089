"""A plan says what a run would take on so many devices, whatever its size, and does nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from guard_plugins.attacks.pgd import PGD
from guard_plugins.cli.arguments import parse
from guard_plugins.cli.run import main
from guard_plugins.evaluation.protocols import find_protocol
from guard_plugins.host import PluginHost
from guard_plugins.method import Method
from guard_plugins.pipeline.planning import plan as planning
from guard_plugins.pipeline.planning.estimate import Estimate, estimate_run
from guard_plugins.pipeline.planning.passes import Passes, attack_passes, curvature_passes, gate_passes
from guard_plugins.pipeline.planning.plan import StagePlan
from guard_plugins.runtime.sharing.helpers import threads
from guard_plugins.runtime.task import Task
from guard_plugins.runtime.work import Work, volume
from guard_plugins.testing.tiny import TinyTask
from guard_sre2l.initialisation import work_list
from guard_sre2l.method import SRe2L

OPTIONS = """--method sre2l --dataset digits --ipc 1 --teacher.epochs 1 --recover.iterations 4 --student.epochs 1
--evaluation.images 8 --device cpu"""
SMALL = OPTIONS.split()

LARGE = """
import json, resource, time
start = time.process_time()  # not the clock: other work on the machine is no fault of the plan
import torch
from guard_plugins.data.base import Data, Split
from guard_plugins.host import PluginHost
from guard_plugins.host.configure import configure
from guard_plugins.pipeline import preparation
from guard_plugins.pipeline.planning.plan import plan

class Synthetic(Split):
    # As many labels as ImageNet-1K has, and images without files.
    def __init__(self, images):
        self.labels = torch.arange(images) % 1000
    def images(self, index):
        return torch.rand(len(index), 3, 224, 224)

def load(config, host):
    names = tuple(f"n{number:08d}" for number in range(1000))
    return Data("imagenet", Synthetic(1_281_167), Synthetic(50_000), names, (0.5,) * 3, (0.25,) * 3, (3, 224, 224))

preparation._load = load
config = configure(method="sre2l", dataset="imagenet", data_root="/", ipc=50, device="cpu")
found = plan(config, gpus=8).as_json()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": time.process_time() - start, "peak": peak, "plan": found}))
"""


def test_a_plan_is_timed_with_the_threads_that_the_run_will_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """On two threads a small network takes many times as long where other programs run."""
    seen = []

    def estimated(task: Task, method: Method) -> Estimate:
        seen.append(torch.get_num_threads())
        return estimate_run(task, method)

    monkeypatch.setattr(planning, "estimate_run", estimated)
    with threads(2):
        planning.plan(parse(SMALL, surroundings=False).config)
        assert torch.get_num_threads() == 2
    assert seen == [1]


def test_a_plan_is_printed_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, "--plan", "--gpus", "2", "--hosts", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in found["stages"]] == ["teacher", "distill", "students", "evaluation", "gate"]
    assert (found["devices"], found["hosts"], found["complete"]) == (4, 2, True)
    assert found["seconds"] == pytest.approx(sum(stage["wall"] for stage in found["stages"]))
    teacher, _, students, evaluation, _ = found["stages"]
    assert (teacher["processes"], students["items"], students["processes"]) == (4, 2, 2)
    assert students["wall"] == pytest.approx(students["seconds"] / 2)
    assert (evaluation["items"], evaluation["processes"]) == (3 * 7, 4)
    assert evaluation["wall"] == pytest.approx(evaluation["seconds"] * 6 / 21)
    assert found["bottleneck"] == max(found["stages"], key=lambda stage: stage["wall"])["name"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gpus", "2"], "--gpus is for plans"), (["--json"], "--json is for plans"),
        (["--plan", "--hosts", "0"], "--hosts must be at least 1"),
    ],
)  # fmt: skip
def test_what_would_do_nothing_is_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, *flags]) == 2
    assert message in capsys.readouterr().err


def test_items_are_dealt_in_rounds() -> None:
    assert StagePlan.of("distill", 500.0, 500, 8) == StagePlan("distill", 500.0, 500, 8, 63.0)
    assert StagePlan.of("teacher", 10.0, 1, 8).wall == 10.0


@pytest.mark.parametrize("mix_copies", [True, False])
@pytest.mark.parametrize(("ipc", "batch"), [(1, 100), (7, 4), (20, 30)])
def test_the_work_of_recovery_is_that_of_its_batches(mix_copies: bool, ipc: int, batch: int) -> None:
    options = {"batch": batch, "mix_copies": mix_copies, "iterations": 3}
    world = TinyTask.of(SRe2L, {"ipc": ipc, "recover": options})
    (work,) = world.instance().work(world.task)
    lists = work_list(10, ipc, batch, mix_copies=mix_copies)
    assert (work.count, work.images, work.steps) == (len(lists), max(map(len, lists)), 3)


def test_the_work_of_a_method_that_says_nothing_grows_with_its_images() -> None:
    class Silent(SRe2L):
        work = Method.work

    one, two = (TinyTask.of(Silent, {"ipc": ipc}) for ipc in (1, 2))
    assert one.instance().work(one.task) == (Work("distill", 1, 10, 1),)
    assert volume(two.instance().work(two.task)) == 20


def test_passes_are_those_of_the_attacks() -> None:
    attacks, task = PluginHost().attacks, TinyTask.of(SRe2L, {}).task
    protocol = find_protocol("pgd-7", attacks, eps=(1, 2))
    assert attack_passes(protocol, attacks, task) == [Passes(2, 7)] * 2, "clean and adversarial images, and 7 gradients"
    assert attack_passes(find_protocol("pgd-7", attacks), attacks, task)[0] == Passes(1, 0), "radius 0 is clean"
    few, many = (gate_passes(find_protocol(name, attacks), task) for name in ("quick", "standard"))
    assert 0 < few.gradient < many.gradient
    assert curvature_passes(task).gradient > 0
    assert Passes(2, 3).seconds(Passes(0.1, 0.2)) == pytest.approx(0.8)
    assert PGD(steps=7).label == "pgd-7"


@pytest.mark.slow
def test_imagenet_at_50_images_per_class_is_planned_in_a_minute_and_two_gigabytes() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["seconds"] < 60
    assert found["peak"] < 2e9
    stages = {stage["name"]: stage for stage in found["plan"]["stages"]}
    assert (stages["distill"]["items"], stages["distill"]["processes"]) == (500, 8)
    assert stages["distill"]["wall"] == pytest.approx(stages["distill"]["seconds"] * 63 / 500)
    assert any("timed in smaller batches" in note for note in found["plan"]["notes"])
    pixels = 50_000 * 3 * 224 * 224
    assert 9 * pixels < found["plan"]["disk"] < 16 * pixels
