"""Augmentations come from plugins, and from the project by the same hook; what they draw is stored and replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from guard_plugins import configure
from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.data.augment import Augmentation, Crop, CropFlip, ResizedCropFlip, View
from guard_plugins.errors import ArtifactError, ConfigError, PluginError
from guard_plugins.host import PluginHost
from guard_plugins.host.configure import host_of
from guard_plugins.labels.store import StoredLabels
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.preparation import prepare
from guard_plugins.pipeline.runner import do_stages
from guard_plugins.pipeline.stages import STAGES
from guard_plugins.runtime.engine import repeatable
from guard_plugins.runtime.signals import StopRequest
from guard_plugins.testing import BrokenPromiseError, check_augmentation
from guard_plugins.training.augmentation import BUILT_IN, Augmenter

PLUGIN = """
import torch
from guard_plugins.data.augment import CropFlip


class Dimmed(CropFlip):
    name, summary, numbers = "dimmed", "crop-flip under less light", 1

    def draw(self, count, size):
        return super().draw(count, size)._replace(numbers=torch.rand(count, 1))

    def apply(self, images, view):
        return super().apply(images, view) * view.numbers.to(images).view(-1, 1, 1, 1)
"""
TINY: dict[str, Any] = {
    "ipc": 2, "device": "cpu", "data": {"train_per_class": 6, "test_per_class": 1},
    "teacher": {"network": "small-resnet", "epochs": 1, "batch_size": 30}, "student": {"epochs": 1},
}  # fmt: skip
STUDENT = {"epochs": 3, "batch_size": 7, "augment": "dimmed"}


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "dim.py"
    path.write_text(PLUGIN)
    return path


def trained(folder: Path, **settings: Any) -> RunContext:
    """Do a tiny run of random real images up to its students."""
    config = configure("random", **{**TINY, **settings})
    folder.mkdir(exist_ok=True)
    with repeatable():
        context = RunContext.start(prepare(config, host_of(config)), RunFolder(folder), StopRequest())
        wanted = ("teacher", "distill", "relabel", "students")
        do_stages(context, [stage for stage in STAGES if stage.name in wanted])
    return context


def student(context: RunContext) -> Tensor:
    return torch.cat([value.flatten().float() for value in context.results.models["student"][0].state_dict().values()])


@pytest.mark.slow
def test_students_and_teachers_use_the_augmentation_of_a_plugin(plugin: Path, tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain", student={**STUDENT, "augment": "crop-flip"})
    dimmed = trained(tmp_path / "dimmed", plugin=[plugin], student=STUDENT)
    teacher = trained(tmp_path / "teacher", plugin=[plugin], teacher={**TINY["teacher"], "augment": "dimmed"})
    assert not torch.equal(student(plain), student(dimmed))
    weights = [next(iter(context.results.models["teacher"][0].parameters())) for context in (plain, dimmed, teacher)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_stored_labels_replay_it_bit_by_bit_and_know_that_they_need_it(plugin: Path, tmp_path: Path) -> None:
    online = trained(tmp_path / "online", plugin=[plugin], student={**STUDENT, "mixup": 0.0})
    stored = trained(tmp_path / "run", plugin=[plugin], student={**STUDENT, "mixup": 0.0, "labels": "stored"})
    labels = stored.results.stored
    assert labels is not None
    batches = labels.batch(0).images, labels.replay(torch.tensor([4, 1]))[0]
    assert torch.equal(batches[0][[4, 1]], batches[1])
    assert (labels.card.augment, labels.card.numbers, labels.card.window) == ("dimmed", 1, 2)
    assert torch.allclose(student(online), student(stored), atol=0.05)  # the labels are rounded to float16
    images = stored.results.distilled.images
    with pytest.raises(ArtifactError, match="need the augmentation 'dimmed' of a plugin") as caught:
        StoredLabels(tmp_path / "run" / "labels", images)
    assert caught.value.seen == "it is not there"
    with pytest.raises(ArtifactError) as caught:
        StoredLabels(tmp_path / "run" / "labels", images, augmentations={"dimmed": CropFlip})
    assert "augmentations={name: class}" in caught.value.do
    known = {"dimmed": stored.prepared.host.augmentations["dimmed"]}
    again = StoredLabels(tmp_path / "run" / "labels", images, augmentations=known)
    assert torch.equal(again.batch(0).images, batches[0])


def test_labels_without_one_are_written_as_they_always_were(tmp_path: Path) -> None:
    stored = trained(tmp_path / "run", student={**STUDENT, "augment": "crop-flip", "labels": "stored"})
    assert stored.results.stored is not None
    assert not {"numbers", "augment"} & set(json.loads(stored.results.stored.card.model_dump_json()))


@pytest.mark.slow
def test_changed_code_redoes_its_stages_and_says_so(plugin: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"plugin": [plugin], "teacher": {**TINY["teacher"], "augment": "dimmed"}}
    first = trained(tmp_path / "run", **settings)
    plugin.write_text(PLUGIN.replace("torch.rand", "1 - torch.rand"))
    second = trained(tmp_path / "run", **settings)
    assert not torch.equal(*(next(iter(c.results.models["teacher"][0].parameters())) for c in (first, second)))
    assert (
        "teacher is done again: the plugin's code changed (dim.py sha256:"
        in (tmp_path / "run" / "events.jsonl").read_text()
    )


@pytest.mark.slow
def test_a_shared_teacher_is_not_that_of_changed_code(plugin: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "plugin": [plugin], "teacher": {**TINY["teacher"], "augment": "dimmed", "cache": tmp_path / "cache"},
    }  # fmt: skip
    trained(tmp_path / "one", **settings)
    trained(tmp_path / "two", **settings)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    plugin.write_text(PLUGIN.replace("torch.rand", "1 - torch.rand"))
    trained(tmp_path / "three", **settings)
    assert len(list((tmp_path / "cache").iterdir())) == 2


RECIPE = """

from guard_plugins.training.recipes import Recipe, StudentRecipe


class Brief(StudentRecipe):
    name, summary = "brief", "under less light"
    recipe = Recipe(
        epochs=3, batch_size=5, optimizer="sgd", lr=0.02, weight_decay=0.0, schedule="step", augment="dimmed"
    )
"""


def test_a_recipe_may_name_it(plugin: Path) -> None:
    plugin.write_text(PLUGIN + RECIPE)
    asked: dict[str, Any] = {"plugin": [plugin], "student": {"protocol": "brief"}, "preset": "fast"}
    config = configure("random", **asked)
    parts = prepare(config, host_of(config)).parts
    assert [part.name for part in parts if part.kind == "augmentations"] == ["dimmed"]
    plugin.write_text(PLUGIN + RECIPE.replace("dimmed", "dimned"))
    with pytest.raises(ConfigError, match=r"Unknown augmentation 'dimned' \(of the recipe brief\)") as caught:
        configure("random", **asked)
    assert "Did you mean 'dimmed'?" in caught.value.do


@pytest.mark.parametrize("section", ["teacher", "student"])
def test_a_typing_error_is_answered_with_the_nearest_one(section: str, plugin: Path) -> None:
    with pytest.raises(ConfigError, match=rf"Unknown augmentation 'crop-flop' \(--{section}.augment\)") as caught:
        configure("random", **{section: {"augment": "crop-flop"}})
    assert "Did you mean 'crop-flip'?" in caught.value.do
    assert "known: crop, crop-flip, none, resized-crop-flip" in caught.value.seen


def test_the_projects_augmentations_come_in_by_the_hook() -> None:
    registered = PluginHost(only=[]).augmentations
    assert {name: registered[name] for name in registered} == dict(BUILT_IN)


def test_the_check_lists_it(plugin: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from guard_plugins.cli.plugins import main

    monkeypatch.setenv("GUARD_PLUGIN_FILES", str(plugin))
    monkeypatch.setenv("GUARD_PLUGINS", "none-of-them")
    assert main(["--check"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("augmentations: ")]
    assert len(lines) == 1
    assert "crop-flip, dimmed (dim.py sha256:" in lines[0]


# --- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*BUILT_IN.values()], ids=list(BUILT_IN))
def test_the_built_in_ones_keep_the_contract(kind: type[Augmentation]) -> None:
    check_augmentation(kind)


class Whitened(CropFlip):
    """A good one, to be broken."""

    name, summary, numbers = "whitened", "some white", 1

    def draw(self, count: int, size: tuple[int, int]) -> View:
        """Return the views."""
        return super().draw(count, size)._replace(numbers=torch.rand(count, 1))

    def apply(self, images: Tensor, view: View) -> Tensor:
        """Return the images."""
        assert view.numbers is not None
        return super().apply(images, view).lerp(torch.ones(()), view.numbers.view(-1, 1, 1, 1))


def _fails(view: View, images: Tensor) -> Tensor:
    raise KeyError("light")


@pytest.mark.parametrize(
    ("attributes", "promise", "seen"),
    [
        ({"name": "White!"}, "declaration", "name = 'White!'"),
        ({"summary": ""}, "declaration", "summary = ''"),
        ({"numbers": 2}, "view", r"numbers as torch.float32 of shape \(6, 1\), but the class declares torch.float32"),
        ({"flips": False}, "view", "flipped as torch.bool .* but the class declares None"),
        ({"draw": lambda self, count, size: View(torch.full((count, 2), 9))}, "view", "flipped as None"),
        ({"draw": lambda self, count, size: CropFlip().draw(count, size)._replace(
            window=torch.full((count, 2), 9), numbers=torch.zeros(count, 1))}, "view", "shifted by more than 1 pixels"),
        ({"draw": lambda self, count, size: CropFlip().draw(count, size)._replace(
            numbers=torch.rand(count, 1, generator=_SHARED))}, "seed", "gave other views"),
        ({"draw": lambda self, count, size: 3}, "view", "a int, not a View"),
        ({"apply": lambda self, images, view: images * torch.rand(())}, "view", "apply drew random numbers"),
        ({"apply": lambda self, images, view: images.mul_(0.5)}, "view", "apply changed the images"),
        ({"apply": lambda self, images, view: images * 2}, "view", "pixels from .* to"),
        ({"apply": lambda self, images, view: images / images.max()}, "view", "changes with the others in its batch"),
        ({"apply": lambda self, images, view: images[:1]}, "view", r"apply returned \(1, 1, 8, 8\) torch.float32 for"),
        ({"apply": lambda self, images, view: _fails(view, images)}, "view", "apply raised KeyError: 'light'"),
    ],
)  # fmt: skip
def test_the_contract_names_what_is_wrong(attributes: dict[str, Any], promise: str, seen: str) -> None:
    check_augmentation(Whitened)
    with pytest.raises(BrokenPromiseError, match=seen) as caught:
        check_augmentation(type("Broken", (Whitened,), attributes))
    assert caught.value.promise == promise


_SHARED = torch.Generator().manual_seed(0)


def test_a_run_names_the_augmentation_that_fails() -> None:
    broken = type("Broken", (Whitened,), {"apply": lambda self, images, view: _fails(view, images)})
    augment = Augmenter(broken)
    view = augment.draw(2, (8, 8))
    with pytest.raises(PluginError, match=r"The augmentation 'whitened' of .* is not usable: apply raised KeyError"):
        augment.apply(torch.rand(2, 1, 8, 8), view)


def test_equal_seeds_give_the_views_of_before() -> None:
    """The order of the draws is part of what stored labels and old runs rely on."""
    from guard_plugins.data.augment import draw_offsets

    torch.manual_seed(3)
    view = CropFlip().draw(5, (16, 16))
    torch.manual_seed(3)
    assert view.window is not None
    assert torch.equal(view.window, draw_offsets(5, padding=2))
    assert view.flipped is not None
    assert torch.equal(view.flipped, torch.rand(5) < 0.5)
    assert Crop().draw(5, (16, 16)).flipped is None
    assert ResizedCropFlip.window == 4
