"""A data set without a preset of its own gets settings by the size of its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guard_plugins import configure
from guard_plugins.cli.arguments import parse


def pictures(root: Path, height: int, width: int) -> Path:
    for split in ("train", "test"):
        for name in ("one", "two"):
            (root / split / name).mkdir(parents=True)
            Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(root / split / name / "0.png")
    (root / "notes.txt").write_text("no image")
    return root


@pytest.mark.parametrize(
    ("height", "width", "preset", "size", "iterations"),
    [
        (8, 8, "digits", None, 500),
        (32, 32, "fast", None, 500),
        (64, 80, "fast", None, 500),
        (300, 200, "fast", 64, 500),
    ],
)
def test_settings_follow_the_size(
    height: int, width: int, preset: str, size: int | None, iterations: int, tmp_path: Path
) -> None:
    config = configure("sre2l", dataset="folder", data_root=pictures(tmp_path, height, width))
    assert (config.preset, config.data.image_size) == (preset, size)
    assert config.recover.iterations == iterations  # type: ignore[attr-defined]


def test_what_is_given_decides(tmp_path: Path) -> None:
    root = str(pictures(tmp_path, 300, 300))
    named = configure("sre2l", dataset="folder", data_root=root, preset="imagenet")
    assert (named.preset, named.data.image_size) == ("imagenet", 224)
    sized = configure("sre2l", dataset="folder", data_root=root, data={"image_size": 96}, teacher={"epochs": 3})
    assert (sized.preset, sized.data.image_size, sized.teacher.epochs) == ("fast", 96, 3)
    assert configure("sre2l").preset is None  # the data set's own
    assert configure("sre2l", dataset="mnist", data_root=root).preset == "fast"


def test_the_command_says_what_it_chose(tmp_path: Path) -> None:
    request = parse(["sre2l", "--dataset=folder", f"--data-root={pictures(tmp_path, 300, 300)}"])
    (note,) = request.notes
    assert "so the size of its images decides: --preset fast, images resized to 64 pixels a side" in note
    assert "at most 1000 training and 100 test images per class" in note
    assert parse(["sre2l"]).notes == ()


def test_a_folder_without_images_is_left_to_the_reader(tmp_path: Path) -> None:
    assert configure("sre2l", dataset="folder", data_root=tmp_path).preset is None
    assert configure("sre2l", dataset="folder", data_root=tmp_path / "missing").preset is None


def test_a_teacher_of_few_images_takes_as_many_steps_as_one_of_digits(tmp_path: Path) -> None:
    root = pictures(tmp_path, 32, 32)
    for number in range(1, 80):
        for name in ("one", "two"):
            source = root / "train" / name / "0.png"
            (root / "train" / name / f"{number}.png").write_bytes(source.read_bytes())
    given = ["sre2l", "--dataset=folder", f"--data-root={root}"]
    request = parse(given)
    assert request.config.teacher.epochs == 110  # of 160 // 64 steps
    assert "110 epochs for the teacher, since there are few images" in request.notes[0]
    assert parse([*given, "--teacher.batch-size=16"]).config.teacher.epochs == 22
    assert parse([*given, "--teacher.epochs=10"]).config.teacher.epochs == 10
    assert parse([*given, "--preset=fast"]).config.teacher.epochs == 10


def test_the_images_that_are_listed_decide(tmp_path: Path) -> None:
    big = pictures(tmp_path / "big", 96, 96)
    linked = tmp_path / "linked"
    linked.mkdir()
    for split in ("train", "test"):
        (linked / split).symlink_to(big / split)
    assert configure("sre2l", dataset="folder", data_root=linked).preset == "fast"
    small = pictures(tmp_path / "small", 32, 32)
    Image.fromarray(np.zeros((400, 400, 3), np.uint8)).save(small / "preview.png")
    (small / "originals" / "one").mkdir(parents=True)
    Image.fromarray(np.zeros((400, 400, 3), np.uint8)).save(small / "originals" / "one" / "0.png")
    config = configure("sre2l", dataset="folder", data_root=small)
    assert (config.preset, config.data.image_size) == ("fast", None)
    (small / "train" / "one" / "again").symlink_to(small / "train")  # a circle is walked once
    assert configure("sre2l", dataset="folder", data_root=small).preset == "fast"
