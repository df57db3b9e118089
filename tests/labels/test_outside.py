"""Soft labels outside of the run that made them: ``guard-eval --student.labels``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from guard_plugins.artifacts.report import Report
from guard_plugins.artifacts.sets.distilled import save_distilled
from guard_plugins.cli import eval as command
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ConfigError
from guard_plugins.labels.store import StoredLabels
from guard_plugins.pipeline.standalone.soft_labels import batches_of
from guard_plugins.training.recipes import recipe_of
from guard_plugins.training.student import soft_label_loss
from guard_plugins.training.student_batches import FixedLabelBatches, OnlineBatches
from tests.labels.conftest import World
from tests.pipeline.conftest import do_tiny_run

Worlds = Callable[..., World]


def chosen(one: World, path: Path, labels: str, epochs: int | None = None, **changes: object) -> tuple[object, str]:
    distilled = replace(one.distilled, **changes)  # type: ignore[arg-type]
    batches, said = batches_of(one.task, distilled, path, labels=labels, teacher=None, given={"epochs": epochs})  # type: ignore[arg-type]
    return batches("student/0"), said


def test_stored_labels_are_found_beside_the_images(world: Worlds) -> None:
    one = world("cifar", epochs=2)
    folder = one.write()
    for path in (one.root, one.root / "distilled"):
        batches, said = chosen(one, path, "stored", epochs=2)
        assert isinstance(batches, StoredLabels)
        assert said.startswith(f"Students learned from the soft labels in {folder}, with their views and batches, by ")
        assert said.endswith(" (--student.protocol) at T = 20.")
    with pytest.raises(ConfigError, match=r"stored for another number of epochs \(--student.epochs\)") as caught:
        chosen(one, one.root, "stored", epochs=3)
    assert caught.value.seen == "2 stored, 3 asked for"


def test_hard_labels_are_said_to_be_a_choice(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    one, said = world("cifar", epochs=2), []
    monkeypatch.setattr(one.task.monitor, "say", said.append)
    assert isinstance(chosen(one, one.root, "hard")[0], OnlineBatches)
    assert not said
    chosen(one, one.root, "hard", soft_labels=torch.zeros(20, 10))
    one.write()
    assert chosen(one, one.root, "hard")[1] == "Students learned from hard labels."
    line = f"{one.root} comes with soft labels; its students learn from hard labels (--student.labels stored uses the "
    assert said == [f"{line}soft labels)"] * 2


def test_labels_that_are_not_there_or_do_not_fit_are_refused(world: Worlds) -> None:
    one = world("cifar", epochs=2)
    with pytest.raises(ConfigError, match=r"comes with no soft labels \(--student.labels\)"):
        chosen(one, one.root, "stored")
    with pytest.raises(ConfigError, match="do not fit the data set 'digits'") as caught:
        chosen(one, one.root, "stored", soft_labels=torch.zeros(20, 3))
    assert caught.value.seen == "labels for 3 classes; the data set has 10"


@pytest.mark.parametrize("recipe", ["published", "cifar", "images-alone"])
def test_one_label_per_image_is_mixed_like_the_images(world: Worlds, recipe: str) -> None:
    one = world(recipe)
    soft = torch.randn(20, 10, generator=torch.Generator().manual_seed(3)) * 8
    distilled = replace(one.distilled, soft_labels=soft)
    temperature = recipe_of(one.task.config.student).temperature
    batches = FixedLabelBatches(one.task, distilled, stage="student/0")
    torch.manual_seed(7)
    batch = batches.batch(1)
    torch.manual_seed(7)
    parameters = batches.draw(1)
    student = torch.randn(7, 10, generator=torch.Generator().manual_seed(4))
    total = 0.0
    for place, row in enumerate(parameters.rows.tolist()):
        target = torch.softmax(soft[row].double() / temperature, 0)
        if parameters.mix is not None:
            partner = parameters.rows[parameters.mix.partner[place]]
            share = float(parameters.mix.share)
            target = share * target + (1 - share) * torch.softmax(soft[partner].double() / temperature, 0)
        answer = torch.softmax(student[place].double() / temperature, 0)
        total += float((target * (target / answer).log()).sum())
    assert batch.soft
    assert float(soft_label_loss(student, batch.targets, temperature)) == pytest.approx(total / 7, rel=1e-4, abs=1e-7)


def test_extreme_labels_stay_finite(world: Worlds) -> None:
    one = world("cifar")
    distilled = DistilledSet(one.distilled.images, one.distilled.labels, torch.eye(10).repeat(2, 1) * 1e6)
    batch = FixedLabelBatches(one.task, distilled, stage="student/0").batch(0)
    student = torch.zeros(7, 10, requires_grad=True)
    loss = soft_label_loss(student, batch.targets, 20.0)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())


@pytest.mark.slow
def test_guard_eval_trains_the_run_s_own_student_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = {"epochs": 11, "labels": "stored", "batch_size": 4, "mixup": 0.5}
    report, run = do_tiny_run(tmp_path / "run", "random", student=student)
    output, few = tmp_path / "x.json", ["--evaluation.images", "20", "--output", str(tmp_path / "x.json")]
    assert command.main(["--distilled", str(run), "--student.labels", "stored", *few]) == 0
    found = json.loads(output.read_text())
    expected = Report.model_validate_json((run / "report.json").read_text()).models.student
    assert found["model"]["clean"] == expected.clean == report.models.student.clean
    assert [entry["accuracy"] for entry in found["model"]["robust"]] == [entry.accuracy for entry in expected.robust]
    assert found["notes"][-1].startswith(f"Students learned from the soft labels in {run / 'labels'}")
    capsys.readouterr()
    assert command.main(["--distilled", str(run), "--evaluation.protocol", "fgsm", *few]) == 0
    assert f"{run} comes with soft labels; its students learn from hard labels" in capsys.readouterr().err
    shard = run / "labels" / "epochs-000010.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert command.main(["--distilled", str(run), "--student.labels", "stored", *few]) == 2
    assert str(shard) in capsys.readouterr().err
    shutil.rmtree(run / "labels")
    other = DistilledSet(torch.rand(10, 1, 8, 8), torch.arange(10), torch.eye(10))
    save_distilled(run / "distilled", other, "abcdefghij")
    few += ["--epochs", "1", "--evaluation.protocol", "fgsm"]
    assert command.main(["--distilled", str(run), "--student.labels", "stored", *few]) == 0
    assert json.loads(output.read_text())["notes"][-1] == "Students learned from one soft label per image."
