"""Numbers and data that go wrong in a run end it with the step or the class, and the likely cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from guard_plugins import Report
from guard_plugins.data.classwise import Classwise
from guard_plugins.data.splits import TensorSplit
from guard_plugins.errors import DataError, TrainingError
from tests.artifacts.test_full_disk import CARD, teacher, write_teacher

TinyRun = Callable[..., tuple[Report, Path]]


@pytest.mark.parametrize(
    "guard",
    [
        pytest.param({"h_rms": 0.06, "weight": 1e30}, id="a finite term that explodes"),
        pytest.param({"h": 1e38}, id="a term that is no number"),
    ],
)
def test_a_term_out_of_hand_stops_the_next_step_and_is_named(tiny_run: TinyRun, guard: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match=r"loss of stage 'teacher' is no longer a finite number at step \d of") as e:
        tiny_run("noise", "run", guard=guard)
    assert "the weight of the curvature term" in e.value.do


def test_a_term_out_of_hand_in_the_only_step_is_found_before_the_teacher_is_used(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="ended in weights that are not finite numbers") as caught:
        tiny_run("noise", "run", guard={"h": 1e38}, teacher={"epochs": 1, "batch_size": 100_000})
    assert "--guard.weight" in caught.value.do
    assert not (tmp_path / "run" / "teacher.safetensors").exists()


def test_random_images_a_class_does_not_have_are_missed_before_a_teacher_is_trained(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="The class '0' has 142 training images, fewer than --ipc asks for") as caught:
        tiny_run("random", "run", ipc=1000)
    assert "--ipc 1000" in caught.value.seen
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("limit", "do"),
    [
        (None, "Lower --ipc to 139 or less."),
        (5000, "Lower --ipc to 139 or less."),
        (20, "Lower --ipc to 20 or less, or raise --data.train-per-class (now 20)."),
    ],
)
def test_a_limit_is_to_be_raised_only_where_it_is_what_limits(limit: int | None, do: str, tiny_run: TinyRun) -> None:
    with pytest.raises(DataError, match="fewer than --ipc asks for") as caught:
        tiny_run("random", "run", ipc=1000, data={"train_per_class": limit})
    assert caught.value.do == do


def test_drawing_from_a_small_class_repeats_it_and_from_an_empty_one_is_an_error() -> None:
    pixels = torch.arange(3).view(3, 1, 1, 1).to(torch.uint8)
    classwise = Classwise(TensorSplit(pixels, torch.tensor([0, 0, 2])), 3)
    drawn = classwise.draw(0, 5, torch.Generator().manual_seed(0)).mul(255).flatten().tolist()
    assert sorted(drawn[:2]) == sorted(drawn[2:4]) == [0.0, 1.0], "each once before any twice"
    with pytest.raises(DataError, match="Class number 1 has no training images"):
        classwise.draw(1, 1, torch.Generator())


@pytest.mark.slow
def test_pixels_of_every_kind_and_an_odd_size_make_a_whole_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    rng, kinds = np.random.default_rng(0), {"L": 1, "RGB": 3, "RGBA": 4, "I;16": 1}
    for split, count in (("train", 8), ("test", 4)):
        for name in ("a", "b"):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                mode, channels = list(kinds.items())[i % 4]
                depth = np.uint16 if mode == "I;16" else np.uint8
                values = rng.integers(0, np.iinfo(depth).max, (13, 9, channels), depth)
                Image.fromarray(values.squeeze(2) if channels == 1 else values).save(folder / f"{i}.png")
    report, folder = tiny_run(
        "sre2l", "run", dataset="folder", data_root=tmp_path / "set",
        teacher={"network": "small-resnet", "epochs": 1, "batch_size": 4}, student={"epochs": 1},
    )  # fmt: skip
    assert report.models.student.clean in [share / 8 for share in range(9)]
    with Image.open(next((folder / "distilled").glob("*/*.png"))) as image:
        assert (image.size, image.mode) == ((9, 13), "RGB")


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_a_training_whose_logits_overflow_is_named_and_not_what_uses_the_network_next(
    who: str, tiny_run: TinyRun, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=f"The {who}'s training ended in a network whose logits are not") as caught:
        tiny_run("sre2l", "run", **{who: {"network": "small-resnet", "epochs": 2, "batch_size": 100_000, "lr": 1e4}})
    assert caught.value.seen == "NaN or infinity for 32 of 32 training images"
    assert f"--{who}.lr" in caught.value.do
    assert (tmp_path / "run" / "teacher.safetensors").exists() == (who == "student")


def test_students_that_are_kept_are_not_called_teachers(tmp_path: Path) -> None:
    student, card = teacher(), CARD
    next(student.parameters()).data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="The student's training ended in weights") as caught:
        write_teacher(tmp_path / "0.safetensors", student, card, who="student")
    assert "--student.lr" in caught.value.do
    assert "--student.guard-weight" in caught.value.do


def test_a_loss_that_is_no_number_at_once_is_not_blamed_on_the_learning_rate(tiny_run: TinyRun) -> None:
    with pytest.raises(
        TrainingError, match="The loss of stage 'student/0' is no longer a finite number at step 1 of"
    ) as e:
        tiny_run("sre2l", "run", student={"temperature": 1e-40})
    assert "temperature" in e.value.do
    assert "learning rate that is too high" not in e.value.do


def test_several_numbers_are_named_in_a_sentence(tiny_run: TinyRun) -> None:
    with pytest.raises(
        TrainingError, match="The ce and bn of stage 'recover/0' are no longer finite numbers at step 2 of"
    ):
        tiny_run("sre2l", "run", recover={"r_bn": 1e38, "iterations": 3})
