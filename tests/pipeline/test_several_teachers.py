"""Several teachers: trained under the hook, resumed one by one, shared in a cache, and asked for their mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from guard_plugins import configure
from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.teacher import read_card
from guard_plugins.cli.arguments import parse
from guard_plugins.errors import ConfigError, PluginError
from guard_plugins.host import PluginHost
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.preparation import prepare
from guard_plugins.pipeline.runner import do_stages
from guard_plugins.pipeline.stages import STAGES
from guard_plugins.pipeline.teachers.training import Training
from guard_plugins.runtime.engine import repeatable
from guard_plugins.runtime.signals import StopRequest
from guard_plugins.testing import check_method
from tests.host.conftest import Install, install

__all__ = ["install"]

SOURCE = """
import torch
from pydantic import Field
from guard_plugins import DistilledSet, Method, MethodConfig, TeacherSpec, hookimpl


class Config(MethodConfig):
    which: tuple[int, ...] = Field((0, 1, 2), description="which of the three teachers")
    late: int = Field(2, description="epoch of the second snapshot")


class Several(Method):
    name, summary, Config, labels = "several", "noise labelled by three teachers", Config, "mean"

    def teachers(self):
        late = self.config.late
        three = (TeacherSpec(snapshots=(0, late)), TeacherSpec(seed=1), TeacherSpec(network="convnet3-bn", epochs=1))
        return [three[number] for number in self.config.which]

    def distill(self, task, teacher):
        assert task.teachers[0].model is teacher and len(task.teachers) == len(self.config.which)
        labels = torch.arange(task.classes).repeat(task.ipc)
        images = torch.rand((len(labels), *task.data.image_shape), generator=task.seeds.generator("several"))
        for step in task.steps("several", 3, state=STATE(images=images)):
            step.log(mean=images.mean())
        return DistilledSet(images, labels)


from guard_plugins import LoopState as STATE


@hookimpl
def register_methods():
    return [Several]
"""
FAST: dict[str, Any] = {
    "ipc": 1,
    "device": "cpu",
    "data": {"train_per_class": 6, "test_per_class": 1},
    "teacher": {"network": "convnet3", "epochs": 2, "batch_size": 20},
    "student": {"network": "convnet3", "epochs": 2},
}


def begun(folder: Path, stages: tuple[str, ...], **settings: Any) -> RunContext:
    """Do some stages of a run, new or begun before."""
    config = configure("several", **{**FAST, **settings})
    with repeatable():
        prepared = prepare(config, PluginHost(only=["several"]))
        folder.mkdir(exist_ok=True)
        run = RunContext.start(prepared, RunFolder(folder), StopRequest())
        do_stages(run, [stage for stage in STAGES if stage.name in stages])
    return run


def student(folder: Path, **settings: Any) -> dict[str, Tensor]:
    run = begun(folder, ("teacher", "teachers", "distill", "relabel", "students"), **settings)
    return run.results.models["student"][0].state_dict()


def differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() != other.keys() or any(not torch.equal(one[name], other[name]) for name in one)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in [folder / "teacher.safetensors", *folder.glob("teachers/*")]
    }


@pytest.fixture
def several(install: Install) -> None:
    install("several", SOURCE)


@pytest.mark.slow
@pytest.mark.usefixtures("several")
def test_the_student_of_three_teachers_is_that_of_none_of_them(tmp_path: Path) -> None:
    three = student(tmp_path / "three")
    assert not differ(three, student(tmp_path / "again"))
    for number in range(3):
        assert differ(three, student(tmp_path / str(number), which=(number,)))
    stored = student(tmp_path / "stored", student={**FAST["student"], "labels": "stored"})
    online = [value.float() for value in three.values()]
    for one, other in zip(online, stored.values(), strict=True):
        torch.testing.assert_close(one, other.float(), atol=0.05, rtol=0.05)  # logits are stored as float16


@pytest.mark.usefixtures("several")
def test_each_teacher_has_its_card_and_its_hook_and_snapshots_are_its_path(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", ("teacher", "teachers"))
    cards = [read_card(Training(run, number).path) for number in range(3)]
    assert [card.network for card in cards] == ["convnet3", "convnet3", "convnet3-bn"]
    assert [card.hook.steps for card in cards if card.hook] == [6, 6, 3], "2, 2 and 1 epochs of 3 batches, each its own"
    first, second, _ = run.results.teachers
    assert not differ(first.at(2), first.model.state_dict())
    assert differ(first.at(0), first.at(2))
    assert not differ(first.at(0), run.task.network(stage="teacher").state_dict())
    assert differ(first.model.state_dict(), second.model.state_dict())
    with pytest.raises(ConfigError, match="There is no snapshot of epoch 1"):
        first.at(1)


@pytest.mark.slow
@pytest.mark.usefixtures("several")
def test_a_run_killed_between_teachers_trains_only_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = begun(tmp_path / "whole", ("teacher", "teachers"))
    original, trained = Training.do, []

    def do(self: Training) -> Any:
        trained.append(self.path.name)
        if self.path.name == "02.safetensors" and len(trained) == 3:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Training, "do", do)
    with pytest.raises(KeyboardInterrupt):
        begun(tmp_path / "killed", ("teacher", "teachers"))
    begun(tmp_path / "killed", ("teacher", "teachers"))
    assert trained == ["teacher.safetensors", "01.safetensors", "02.safetensors", "02.safetensors"]
    assert content(tmp_path / "killed") == content(whole.folder.path)


@pytest.mark.slow
@pytest.mark.usefixtures("several")
def test_the_cache_gives_the_same_teachers_and_no_damaged_or_foreign_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = {**FAST["teacher"], "cache": tmp_path / "cache"}
    stages = ("teacher", "teachers")
    begun(tmp_path / "one", stages, teacher=teacher)
    assert "taken from" not in capsys.readouterr().err
    begun(tmp_path / "two", stages, teacher=teacher)
    assert capsys.readouterr().err.count("teacher taken from") == 3
    assert content(tmp_path / "one") == content(tmp_path / "two")
    entry = next(path for path in (tmp_path / "cache").iterdir() if (path / "epoch-0002.safetensors").exists())
    begun(tmp_path / "other", stages, teacher=teacher, seed=1)
    assert "taken from" not in capsys.readouterr().err, "another seed is another teacher"
    for folder in (tmp_path / "cache").iterdir():
        assert json.loads((folder / "entry.json").read_text())["key"] == folder.name
        (folder / "teacher.safetensors").write_bytes(b"damaged")
    begun(tmp_path / "three", stages, teacher=teacher)
    said = capsys.readouterr().err
    assert said.count("is not used, and trained anew: teacher.safetensors was altered or truncated") == 3
    assert content(tmp_path / "three") == content(tmp_path / "one")
    assert (entry / "teacher.safetensors").stat().st_size > 1000
    assert not list((tmp_path / "cache").glob("*.part"))


@pytest.mark.usefixtures("several")
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs snapshots of a teacher that its training does not reach") as caught:
        begun(tmp_path / "run", ("teacher",), late=3)
    assert caught.value.seen == "epochs (0, 3) of 2"
    with pytest.raises(PluginError, match="must return TeacherSpecs that differ"):
        begun(tmp_path / "run", ("teacher",), which=(1, 1))
    with pytest.raises(ConfigError, match=r"needs more than a given teacher has \(--teacher\)"):
        begun(tmp_path / "run", ("teacher",), teacher={"path": tmp_path})
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("several")
def test_a_method_with_several_teachers_passes_the_contract() -> None:
    check_method(PluginHost(only=["several"]).method("several"), settings={"late": 1})


def test_a_resumed_run_may_be_told_the_cache_again(tmp_path: Path) -> None:
    config, cache = configure("sre2l", teacher={"cache": tmp_path / "first"}), tmp_path / "cache"
    text = yaml.safe_dump(config.model_dump(mode="json"))
    (tmp_path / "config.yaml").write_text(text)
    assert "cache" not in text
    asked = parse(["--resume", str(tmp_path), "--teacher.cache", str(cache)]).config
    assert asked.teacher.cache == cache
    assert asked.model_dump() == config.model_dump()
    with pytest.raises(ConfigError, match=r"--teacher.epochs cannot be given with --resume"):
        parse(["--resume", str(tmp_path), "--teacher.epochs", "3"])
