"""Recipes of students come from plugins, and from the project by the same hook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from guard_plugins import configure
from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.errors import ConfigError
from guard_plugins.host import PluginHost
from guard_plugins.host.configure import host_of
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.preparation import prepare
from guard_plugins.pipeline.runner import do_stages
from guard_plugins.pipeline.stages import STAGES
from guard_plugins.runtime.signals import StopRequest
from guard_plugins.training.recipes import RECIPES

PLUGIN = """
from guard_plugins.training.recipes import Recipe, StudentRecipe


class Brief(StudentRecipe):
    name = "brief"
    summary = "a few epochs of SGD"
    recipe = Recipe(epochs=3, batch_size=5, optimizer="sgd", lr=0.02, weight_decay=0.0, schedule="step", augment="none")
"""
TINY: dict[str, Any] = {
    "ipc": 1, "device": "cpu", "data": {"train_per_class": 12, "test_per_class": 2},
}  # fmt: skip


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "brief.py"
    path.write_text(PLUGIN)
    return path


def student(folder: Path, **settings: Any) -> dict[str, torch.Tensor]:
    """Return the weights of the student of a tiny run of random real images."""
    config = configure("random", **TINY, **settings)
    folder.mkdir()
    context = RunContext.start(prepare(config, host_of(config)), RunFolder(folder), StopRequest())
    wanted = ("teacher", "distill", "relabel", "students")
    do_stages(context, [stage for stage in STAGES if stage.name in wanted])
    return context.results.models["student"][0].state_dict()


def test_a_run_uses_the_recipe_of_a_plugin(plugin: Path, tmp_path: Path) -> None:
    asked = {"epochs": 3, "batch_size": 5, "lr": 0.02, "weight_decay": 0.0, "augment": "none", "mixup": 0.0}
    teacher = {"network": "convnet3", "epochs": 1, "batch_size": 60}
    brief = {"protocol": "brief", "epochs": 3}  # over the epochs of the preset
    theirs = student(tmp_path / "brief", plugin=[plugin], student=brief, teacher=teacher)
    same = student(tmp_path / "dc", student={**asked, "protocol": "dc"}, teacher=teacher)
    other = student(tmp_path / "other", student={**asked, "protocol": "one-cycle"}, teacher=teacher)
    assert all(torch.equal(value, same[name]) for name, value in theirs.items())
    assert any(not torch.equal(value, other[name]) for name, value in theirs.items())


def test_the_run_says_whose_recipe_it_uses(plugin: Path) -> None:
    config = configure("random", plugin=[plugin], student={"protocol": "brief"})
    assert [part.name for part in prepare(config, host_of(config)).parts if part.kind == "recipes"] == ["brief"]


def test_a_typing_error_is_answered_with_the_nearest_recipe(plugin: Path) -> None:
    with pytest.raises(ConfigError, match=r"Unknown recipe 'breif' \(--student.protocol\)") as caught:
        configure("random", plugin=[plugin], student={"protocol": "breif"})
    assert "Did you mean 'brief'?" in caught.value.do


def test_the_projects_recipes_come_in_by_the_hook() -> None:
    registered = PluginHost(only=[]).recipes
    assert {name: registered[name].recipe for name in registered} == dict(RECIPES)


def test_a_recipe_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text("from guard_plugins.training.recipes import StudentRecipe\n\n\nclass Wrong(StudentRecipe):\n"
                    "    name = 'wrong'\n    summary = ''\n    recipe = 3\n")  # fmt: skip
    host = PluginHost(only=[], files=[path])
    assert host.broken["wrong.py"].reason == "register_recipes returned Wrong, whose `recipe` is no Recipe"


def test_a_temperature_beside_a_recipe_that_compares_logits_is_refused(plugin: Path) -> None:
    plugin.write_text(PLUGIN.replace('schedule="step"', 'schedule="step", loss="mse"'))
    asked: dict[str, Any] = {"plugin": [plugin], "student": {"protocol": "brief", "temperature": 4.0}}
    with pytest.raises(ConfigError, match=r"--student.temperature would do nothing: students of the recipe brief"):
        configure("sre2l", **asked)
    configure("sre2l", **asked | {"student": {"protocol": "brief"}})
