"""The one path from configuration to report."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torchvision.datasets import ImageFolder

from guard_plugins import Report, configure, run
from guard_plugins.artifacts.sets.distilled import load_distilled, load_pngs
from guard_plugins.cli.arguments import parse
from guard_plugins.data.base import Data, DataRequest
from guard_plugins.data.datasets.digits import Digits
from guard_plugins.data.splits import TensorSplit
from guard_plugins.errors import ConfigError
from tests.pipeline.conftest import TINY, numbers

TinyRun = Callable[..., tuple[Report, Path]]


def test_a_run_leaves_everything_it_promises(whole: Path) -> None:
    folder = whole
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.yaml", "manifest.json", "events.jsonl", "teacher.safetensors", "distilled", "distilled.png",
        "report.json", "report.md", "stages.json",
    }  # fmt: skip
    assert not {"checkpoints", ".lock"} & names
    report = Report.model_validate_json((folder / "report.json").read_text())
    assert (report.method, report.dataset, report.ipc, report.seed) == ("sre2l", "digits", 1, 0)
    assert report.guard == {"h": None, "h_rms": report.guard["h_rms"], "weight": 1.0, "penalty": "loss", "every": 1}  # type: ignore[index]
    assert report.hook is not None
    assert report.hook.regularised_steps == report.hook.steps == 1438 // 64
    for model in (report.models.teacher, report.models.student, report.models.student_hard):
        assert model is not None
        accuracies = [entry.accuracy for entry in model.robust]
        assert accuracies == sorted(accuracies, reverse=True)
        assert [entry.images for entry in model.robust] == [20] * 7
        assert model.at(0.0) == model.clean
    assert set(report.seconds) == {"teacher", "distill", "students", "evaluation", "figures"}


def test_the_distilled_folder_loads_elsewhere(tiny_run: TinyRun) -> None:
    _, folder = tiny_run("random", "run", ipc=2)
    exact, stored = load_distilled(folder / "distilled"), load_pngs(folder / "distilled")
    elsewhere = ImageFolder(str(folder / "distilled"))
    assert len(elsewhere) == len(exact.images) == 20
    assert sorted(elsewhere.targets) == exact.labels.sort().values.tolist() == stored.labels.sort().values.tolist()
    assert torch.equal(stored.as_floats().images, exact.as_stored().images)
    rows = [json.loads(line) for line in (folder / "distilled" / "metadata.jsonl").read_text().splitlines()]
    assert {row["file_name"].split("/")[0] for row in rows} == {f"{i}_{i}" for i in range(10)}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_report_and_another_does_not(tiny_run: TinyRun) -> None:
    folders = [tiny_run("sre2l", name, seed=seed)[1] for name, seed in (("a", 3), ("b", 3), ("c", 4))]
    assert numbers(folders[0]) == numbers(folders[1])
    images = [load_file(folder / "distilled" / "distilled.safetensors")["images"] for folder in folders]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


@pytest.mark.slow
def test_the_stored_configuration_reruns_the_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    _, folder = tiny_run("sre2l", "first", no_guard=True)
    again = parse(["--config", str(folder / "config.yaml"), "--output", str(tmp_path / "again")]).config
    run(again)
    assert numbers(folder) == numbers(tmp_path / "again")


def test_without_the_hook_the_report_says_so(tiny_run: TinyRun) -> None:
    report, folder = tiny_run("noise", "run", no_guard=True)
    assert report.guard is None
    assert report.hook is None
    assert "No curvature hook." in (folder / "report.md").read_text()


@pytest.mark.slow
def test_weight_zero_is_bit_identical_to_no_hook(tiny_run: TinyRun) -> None:
    _, plain = tiny_run("noise", "plain", no_guard=True)
    _, zero = tiny_run("noise", "zero", guard={"weight": 0.0})
    one, other = (load_file(folder / "teacher.safetensors") for folder in (plain, zero))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_reused_teacher_brings_its_history_along(tiny_run: TinyRun) -> None:
    first, folder = tiny_run("sre2l", "first")
    second, reused = tiny_run("random", "second", teacher=str(folder / "teacher.safetensors"))
    assert second.models.teacher is not None
    assert first.models.teacher is not None
    assert second.models.teacher.clean == first.models.teacher.clean
    assert (second.guard, second.hook) == (first.guard, first.hook)
    with pytest.raises(ConfigError, match="was trained under the curvature hook, but --no-guard"):
        tiny_run("random", "third", teacher=str(folder / "teacher.safetensors"), no_guard=True)
    with pytest.raises(ConfigError, match="does not fit this run: its network differs") as caught:
        tiny_run("random", "fourth", teacher={"path": str(reused / "teacher.safetensors"), "network": "resnet18"})
    assert "--teacher.network small-resnet" in caught.value.do
    with pytest.raises(ConfigError, match="does not fit this run: its image shape differs") as caught:
        tiny_run("random", "fifth", teacher=str(reused / "teacher.safetensors"), data={"image_size": 16})
    assert "--data.image-size" in caught.value.do
    assert "--teacher.network" not in caught.value.do


@pytest.mark.slow
def test_a_run_s_folder_stands_for_its_teacher(whole: Path, tiny_run: TinyRun, tmp_path: Path) -> None:
    report, _ = tiny_run("random", "second", teacher=str(whole))
    earlier = Report.model_validate_json((whole / "report.json").read_text()).models.teacher
    assert report.models.teacher is not None
    assert earlier is not None
    assert report.models.teacher.clean == earlier.clean
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match=r"The folder .*none holds no teacher\.safetensors\n") as caught:
        tiny_run("random", "third", teacher=str(tmp_path / "none"))
    assert "a method without a teacher leaves none" in caught.value.seen
    assert not (tmp_path / "third").exists()


def test_a_damaged_teacher_is_named(tiny_run: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}garbage")
    with pytest.raises(ConfigError, match=r"bad\.safetensors is not a readable safetensors file"):
        tiny_run("noise", "run", teacher=str(tmp_path / "bad.safetensors"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_several_students_give_mean_and_deviation(tiny_run: TinyRun) -> None:
    report, _ = tiny_run("random", "run", student={"epochs": 2, "count": 2})
    student = report.models.student
    assert student.models == 2
    assert student.sd is not None
    assert all(entry.sd is not None for entry in student.robust)


def test_global_random_streams_are_left_as_found(tiny_run: TinyRun) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    tiny_run("noise", "run")
    after = (torch.rand(()).item(), np.random.rand(), random.random())
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    assert after == (torch.rand(()).item(), np.random.rand(), random.random())


def test_the_configuration_is_stored_whole(whole: Path) -> None:
    stored: dict[str, Any] = yaml.safe_load((whole / "config.yaml").read_text())
    assert stored["recover"]["iterations"] == 3
    assert stored["guard"]["h_rms"] is not None
    assert not {"output", "checkpoint_every"} & set(stored)


def test_a_diverging_teacher_stops_with_step_and_cause(tiny_run: TinyRun) -> None:
    from guard_plugins.errors import TrainingError

    with pytest.raises(
        TrainingError, match=r"loss of stage 'teacher' is no longer a finite number at step \d+ of"
    ) as caught:
        tiny_run("noise", "run", no_guard=True, teacher={"epochs": 1, "lr": 1e18})
    assert "learning rate" in caught.value.do


@pytest.mark.slow
def test_a_run_on_validation_images_never_reads_the_test_images(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Digits.load

    def without_test(self: Digits, request: DataRequest) -> Data:
        data = load(self, request)
        return replace(data, test=TensorSplit(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)))

    monkeypatch.setattr(Digits, "load", without_test)
    report, _ = tiny_run("random", "run", data={"validation_per_class": 2})
    assert report.dataset == "digits, 2 held-out training images per class"
    assert report.models.student.robust[0].images == 20


def test_the_student_s_gate_knows_its_teacher(whole: Path) -> None:
    gate = Report.model_validate_json((whole / "report.json").read_text()).gate
    verdicts = {
        kind: next(item.verdict for item in items if item.name == "adaptive attack breaks little more")
        for kind, items in gate.items()
        if kind != "student_hard"
    }
    assert verdicts["teacher"] == "not run"
    assert verdicts["student"] in ("passed", "failed")


def test_a_run_ends_with_the_gate_s_tally(whole: Path) -> None:
    said = [json.loads(line).get("text", "") for line in (whole / "events.jsonl").read_text().splitlines()]
    assert any(re.fullmatch(r"release gate, student: \d+ passed, .*\d+ not run", text) for text in said)
    assert not any("There is no preset" in text for text in said)  # digits has one
    page = (whole / "report.md").read_text()
    assert re.search(r"\* Release gate, student: .*not run \(FGSM ≥ PGD-20 ≥ PGD-100 ≥ AutoAttack; ", page)


def test_a_data_set_without_a_preset_has_one_by_the_size_of_its_images(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("one", "two"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(4):
                picture = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(picture).save(tmp_path / part / name / f"{number}.png")
    small = {**TINY, "teacher": {"network": "small-resnet", "epochs": 1, "batch_size": 4}}
    run(configure("noise", dataset="folder", data_root=tmp_path, output=tmp_path / "run", **small))
    said = (tmp_path / "run/events.jsonl").read_text()
    assert "no preset" not in said
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["preset"] == "digits"
    request = parse(["--config", str(tmp_path / "run/config.yaml"), "--output", str(tmp_path / "again")])
    run(request.config)
    assert "no preset" not in (tmp_path / "again/events.jsonl").read_text()  # the file sets everything
