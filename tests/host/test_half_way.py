"""A method that fails half-way is named with its distribution, and what was finished before stays on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guard_plugins import Report, RunConfig, configure, run
from guard_plugins.config.layers import Layer
from guard_plugins.errors import ConfigError, PluginError
from guard_plugins.host.configure import resolve
from guard_plugins.pipeline.run import resume

Install = Callable[..., None]

TOY = """
import torch
from guard_plugins import DistilledSet, Method, hookimpl
from guard_plugins.runtime.loop import LoopState

class Toy(Method):
    name = "toy"
    summary = "a toy"
    uses_teacher = {teacher}
    guarded = ("train_teacher",) if uses_teacher else ()
    labels = "soft" if uses_teacher else "hard"

    def distill(self, task, teacher):
        labels = torch.arange(task.classes).repeat(task.ipc)
        images = torch.zeros(len(labels), *task.data.image_shape)
        for step in task.steps("toy", 4, state=LoopState(images=images)):
            images += 0.1
            {body}
        return {result}

@hookimpl
def register_methods():
    return [Toy]
"""
SET = "DistilledSet(images, labels)"
SETTINGS = {
    "ipc": 1,
    "data": {"train_per_class": 20},
    "teacher": {"epochs": 1},
    "student": {"epochs": 1},
    "evaluation": {"images": 10},
    "checkpoint_every": 1e-9,
}


def toy(body: str = "pass", result: str = SET, *, teacher: bool = True) -> str:
    return TOY.format(body=body, result=result, teacher=teacher)


def tiny(folder: Path, **settings: Any) -> RunConfig:
    layers = [Layer("the tiny run", SETTINGS, may_be_idle="yes"), Layer("settings", {**settings, "output": folder})]
    return resolve("toy", layers)


def go(folder: Path) -> Report:
    return run(tiny(folder))


@pytest.mark.slow
def test_a_foreign_error_half_way_names_the_plugin_and_keeps_the_work(install: Install, tmp_path: Path) -> None:
    flag = tmp_path / "mended"
    install(
        "toy",
        toy(f"if step.index == 2 and not __import__('pathlib').Path({str(flag)!r}).exists(): raise KeyError('boom')"),
        distribution="guard-toy",
        version="0.3",
    )
    folder = tmp_path / "run"
    with pytest.raises(PluginError, match=r"'toy' of guard-toy 0\.3 failed in distill: KeyError: 'boom'") as caught:
        go(folder)
    assert isinstance(caught.value.__cause__, KeyError)
    assert "in distill" in caught.value.seen
    assert "Update or uninstall guard-toy" in caught.value.do
    assert f"`guard-run --resume {folder}` goes on" in caught.value.do
    teacher = (folder / "teacher.safetensors").stat().st_mtime_ns
    assert {path.name.split("-")[0] for path in (folder / "checkpoints").iterdir()} == {"teacher", "toy"}
    flag.touch()
    report = resume(folder, tiny(folder))
    assert report.method == "toy"
    assert (folder / "teacher.safetensors").stat().st_mtime_ns == teacher


def test_an_error_of_distill_names_the_folder_to_go_on_with(install: Install, tmp_path: Path) -> None:
    install("toy", toy("raise KeyError('boom')", teacher=False))
    with pytest.raises(PluginError, match="failed in distill: KeyError") as caught:
        go(tmp_path / "run")
    assert f"Finished work is kept: `guard-run --resume {tmp_path / 'run'}` goes on from it." in caught.value.do


def test_an_error_before_the_run_speaks_of_no_finished_work(install: Install, tmp_path: Path) -> None:
    check = "def check(self, task, teacher): raise KeyError\n    def distill"
    install("toy", toy(teacher=False).replace("def distill", check))
    with pytest.raises(PluginError, match="failed in check: KeyError") as caught:
        go(tmp_path / "run")
    assert "--resume" not in caught.value.do
    assert not (tmp_path / "run").exists()


def test_the_hosts_own_errors_pass_as_they_are(install: Install, tmp_path: Path) -> None:
    install("toy", toy("from guard_plugins.errors import ConfigError; raise ConfigError('no')", teacher=False))
    with pytest.raises(ConfigError, match=r"^no$"):
        go(tmp_path / "run")


def test_strict_mode_raises_the_original(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("toy", toy("raise KeyError('boom')", teacher=False))
    monkeypatch.setenv("GUARD_STRICT_PLUGINS", "1")
    with pytest.raises(KeyError, match="boom"):
        go(tmp_path / "run")


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ("images", "it is a Tensor, not a DistilledSet"),
        ("DistilledSet(images[..., :4], labels)", r"images of shape \(1, 8, 4\), but the data has \(1, 8, 8\)"),
        ("DistilledSet(images[1:], labels[1:])", "0 images of class '0', but --ipc 1"),
        ("DistilledSet(images, labels + 1)", "labels from 1 to 10, but there are 10 classes"),
        ("DistilledSet(images.double(), labels)", r"images must be plain torch\.float32 on the CPU"),
        ("DistilledSet(images.requires_grad_(), labels)", "with a gradient"),
        ("DistilledSet(images, labels, images[:, 0, 0])", r"soft labels of shape \(10, 8\), not for 10 classes"),
        ("DistilledSet(images, labels, torch.zeros(10, 10).double())", r"soft labels must be plain torch\.float32"),
    ],
)
def test_a_set_that_is_not_what_was_promised_is_refused(
    install: Install, tmp_path: Path, result: str, problem: str
) -> None:
    install("toy", toy(result=result, teacher=False))
    with pytest.raises(
        PluginError, match=f"distilled set of 'toy' of guard-toy 1.0 is not what `distill` must return: .*{problem}"
    ):
        go(tmp_path / "run")


def test_a_failing_data_set_is_named_like_a_failing_method(install: Install, tmp_path: Path) -> None:
    install(
        "toy",
        toy()
        + """
from guard_plugins.data.base import DataSet
class Rotten(DataSet):
    name = "rotten"
    summary = "raises"
    def load(self, request):
        raise OSError("worms")
@hookimpl
def register_datasets():
    return [Rotten]
""",
    )
    with pytest.raises(PluginError, match=r"'rotten' of guard-toy 1\.0 failed in load: OSError: worms"):
        run(configure("toy", dataset="rotten", output=tmp_path / "run"))


@pytest.mark.slow
def test_where_the_hook_does_not_apply_the_run_says_so(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("toy", toy(teacher=False))
    report = go(tmp_path / "run")
    assert report.guard is None
    assert report.hook is None
    assert "The curvature hook does not apply to the method 'toy'" in capsys.readouterr().err
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert any("does not apply" in event.get("text", "") for event in events)


@pytest.mark.slow
def test_where_the_hook_applies_or_is_turned_off_nothing_is_said(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("toy", toy())
    assert go(tmp_path / "run").guard is not None
    assert run(tiny(tmp_path / "plain", no_guard=True)).guard is None
    assert "does not apply" not in capsys.readouterr().err


def test_the_loop_state_is_saved_before_the_failure(install: Install, tmp_path: Path) -> None:
    from guard_plugins.artifacts.tree import load_tree

    install("toy", toy("if step.index == 3: raise RuntimeError('late')", teacher=False), distribution="guard-late")
    with pytest.raises(PluginError, match=r"'toy' of guard-late 1\.0 failed in distill: RuntimeError: late") as caught:
        go(tmp_path / "run")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "Update or uninstall guard-late" in caught.value.do
    assert "does not apply to the method 'toy'" in (tmp_path / "run" / "events.jsonl").read_text()
    (path,) = (tmp_path / "run" / "checkpoints").iterdir()
    saved = load_tree(path)
    assert saved["done"] == 3
    assert torch.allclose(saved["state"]["images"], torch.tensor(0.3))
