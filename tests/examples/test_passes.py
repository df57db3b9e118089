"""The cost of a set in passes: what the settings of its commands say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from examples.experiments.passes import ROWS, Passes
from examples.experiments.plan import load
from guard_plugins.cli.arguments import parse
from guard_plugins.host import PluginHost
from guard_plugins.host.configure import host_of
from guard_plugins.runtime.work import volume
from tests.examples.test_experiments import HERE

CLASSES, IMAGES = 10, 10_000
RUNS = {(run.experiment.name, run.row): run for one in load(HERE / "plans") for run in one.runs() if run.seed == 0}


@pytest.mark.parametrize("passes", ROWS, ids=lambda one: f"{one.experiment}-{one.row}")
def test_passes_are_what_the_settings_say(passes: Passes) -> None:
    run = RUNS[passes.experiment, passes.row]
    command = run.template
    if run.evaluates:
        (name,) = run.needs()[:1]
        made = next(one for one in RUNS.values() if one.name == name)
        epochs = int(command.partition("--student.epochs ")[2].split()[0])
        command = f"{made.template} --student.epochs {epochs}"
    if "features" in command and "features" not in PluginHost().methods:
        pytest.skip("guard-features is not installed")
    words = command.replace("{data}", "data").replace("{teachers}", "teachers").split()[1:]
    config = parse([word for word in words if "{" not in word and word != "--teacher"]).config
    trained = config.teacher.epochs * IMAGES
    hooked = config.guard.every if config.guarded or config.teacher.training != "plain" else None
    networks = getattr(getattr(config, "features", None), "teachers", 1)
    assert passes.teachers == networks * (trained + (trained // hooked if hooked else 0))
    assert passes.ipc == config.ipc
    formation = getattr(getattr(config, config.method, None), "formation", 1)
    assert passes.shown == (config.student.epochs or 0) * CLASSES * config.ipc * formation**2
    assert passes.distillation == _made_in(config)


def _made_in(config: Any) -> int:
    """Return the images that pass while a set is made."""
    if config.method == "random":
        return 0
    if config.method == "features":
        options = config.features
        return int(options.steps * CLASSES * (options.real_batch + config.ipc * options.formation**2))
    task: Any = SimpleNamespace(config=config, classes=CLASSES, ipc=config.ipc)
    return volume(host_of(config).method(config.method)(config).work(task))
