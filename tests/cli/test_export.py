"""A run's set in every format of other code bases: what comes back is what went out, with a card beside it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml

from guard_plugins.artifacts.formats import read_any
from guard_plugins.artifacts.report import read_report
from guard_plugins.artifacts.sets.distilled import DistilledSetError, load_distilled, save_distilled
from guard_plugins.cli.arguments import parse
from guard_plugins.cli.plugins import main
from guard_plugins.data.datasets.digits import MEAN, STD
from guard_plugins.data.distilled import DistilledSet
from tests.report.folders import write_run

FORMATS = {"dc": 2e-7, "dd-ranking": 0.0, "sre2l": 0.5 / 255 + 1e-6, "parquet": 0.5 / 255 + 1e-6}
"""Largest difference of a pixel, as the cards state it."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run on digits whose images are made, with soft labels and without a teacher."""
    folder = tmp_path / "run"
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((20, 1, 8, 8), generator=generator)
    distilled = DistilledSet(images, torch.arange(10).repeat(2), torch.randn((20, 10), generator=generator), 0.02)
    save_distilled(folder / "distilled", distilled, tuple(map(str, range(10))))
    config = parse(["--method", "random", "--ipc", "2"], surroundings=False).config
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return folder


def target(folder: Path, name: str) -> Path:
    return folder / (f"{name}.pt" if name == "dc" else name)


@pytest.mark.parametrize(("name", "most"), FORMATS.items())
def test_what_was_exported_is_read_back(run: Path, name: str, most: float, capsys: pytest.CaptureFixture[str]) -> None:
    output = target(run.parent, name)
    assert main(["export", str(run), "--format", name, "--output", str(output)]) == 0
    card = output.with_suffix(".md") if name == "dc" else output / "README.md"
    assert capsys.readouterr().out.splitlines() == [str(output), str(card)]
    ours, found = load_distilled(run / "distilled"), read_any(output, mean=MEAN, std=STD)
    assert torch.equal(found.labels, ours.soft_labels.argmax(1) if name == "dd-ranking" else ours.labels)
    assert (found.images - ours.images).abs().max() <= most
    if name in ("sre2l", "parquet"):
        assert torch.equal(found.images, ours.as_stored().images)
    if name in ("dd-ranking", "parquet"):
        assert torch.equal(found.soft_labels, ours.soft_labels)


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"dc"}))
def test_an_export_killed_anywhere_is_no_smaller_set(run: Path, name: str) -> None:
    """A copy of this process dies at its first change in the folder, at its fourth, and so on."""
    whole, stopped = load_distilled(run / "distilled"), 0
    for change in range(1, 400, 3):
        output = run.parent / f"{name}-{change}"
        if not (child := os.fork()):
            die_at(change, output)
            os._exit(main(["export", str(run), "--format", name, "--output", str(output)]))
        if os.waitpid(child, 0)[1] == 0:
            break
        if (output / "README.md").exists() and not (output / "unfinished.part").exists():
            assert len(read_any(output, mean=MEAN, std=STD).images) == len(whole.images)
        elif output.exists() and any(output.iterdir()):
            with pytest.raises(DistilledSetError, match="was stopped half-way"):
                read_any(output, mean=MEAN, std=STD)
            assert main(["export", str(run), "--format", name, "--output", str(output)]) == 2
            stopped += 1
    assert stopped > 1
    assert change > 4


def die_at(change: int, folder: Path) -> None:
    left = [change]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in ("os.mkdir", "os.rename")) and str(folder) in str(arguments[0]):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def test_an_export_to_a_full_disk_leaves_an_empty_folder(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("guard_plugins.artifacts.atomic._finish", full)
        assert main(["export", str(run), "--format", "sre2l", "--output", str(run.parent / "out")]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not list((run.parent / "out").iterdir())
    assert main(["export", str(run), "--format", "sre2l", "--output", str(run.parent / "out")]) == 0


def test_names_of_classes_are_text_on_the_card(run: Path) -> None:
    names = ("<script>alert(1)</script>", "new\nline", "a & b", *map(str, range(7)))
    whole = load_distilled(run / "distilled")
    shutil.rmtree(run / "distilled")
    save_distilled(run / "distilled", whole, names)
    assert main(["export", str(run), "--format", "sre2l", "--output", str(run.parent / "out")]) == 0
    text = (run.parent / "out" / "README.md").read_text()
    assert "10 classes: &lt;script&gt;alert(1)&lt;/script&gt;, new line, a &amp; b, 0" in text
    assert "<script>" not in text


def test_the_card_states_recipe_budget_teacher_and_results(run: Path) -> None:
    main(["export", str(run), "--format", "parquet", "--output", str(run.parent / "out")])
    text = (run.parent / "out" / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["pretty_name"] == "digits distilled with random"
    assert "20 images of 1 x 8 x 8: 1,280 stored pixels" in text
    assert "soft labels: 200 further numbers" in text
    assert "learned rate of the students: 0.02" in text
    assert yaml.safe_load(text.split("```yaml")[1].split("```")[0])["ipc"] == 2
    assert "uses no teacher" in text
    assert "nothing was measured yet" in text
    assert "rounded to 8 bits" in text


def test_the_card_counts_no_labels_that_the_format_leaves_out(run: Path) -> None:
    main(["export", str(run), "--format", "sre2l", "--output", str(run.parent / "out")])
    text = (run.parent / "out" / "README.md").read_text()
    assert "soft labels are left out" in text
    assert "further numbers" not in text


@pytest.mark.parametrize(("labels", "words"), [("own", "the soft labels that the method returned"), ("hard", "hard ")])
def test_the_card_says_what_students_learn_from_where_there_is_no_teacher(
    labels: str, words: str, run: Path, tmp_path: Path
) -> None:
    report = read_report(write_run(tmp_path / "other") / "report.json").model_copy(update={"learned_from": labels})
    (run / "report.json").write_text(report.model_dump_json())
    assert main(["export", str(run), "--format", "parquet", "--output", str(run.parent / "out")]) == 0
    text = (run.parent / "out" / "README.md").read_text()
    assert f"the method uses no teacher, and students learn from {words}" in text


def message(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["export", *arguments]) == 2
    return capsys.readouterr().err


def test_wrong_input_ends_before_anything_is_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run.parent / "out"
    assert "There is no run" in message(capsys, str(run / "no"), "--format", "sre2l", "--output", str(out))
    assert "ending in .pt" in message(capsys, str(run), "--format", "dc", "--output", str(out))
    deep = str(run.parent / "a" / "b")
    assert "There is no folder" in message(capsys, str(run), "--format", "sre2l", "--output", deep)
    assert not out.exists()
    out.mkdir()
    (out / "mine").touch()
    assert "nothing is overwritten" in message(capsys, str(run), "--format", "sre2l", "--output", str(out))
    (run.parent / "set.md").write_text("mine")
    assert "set.md exists" in message(capsys, str(run), "--format", "dc", "--output", str(run.parent / "set.pt"))
    (run / "report.json").write_text("{}")
    assert "report.json is damaged" in message(capsys, str(run), "--format", "sre2l", "--output", deep[:-2] + "c")
    (run / "config.yaml").write_text("[")
    assert "config.yaml is damaged" in message(capsys, str(run), "--format", "sre2l", "--output", deep[:-2] + "c")


@pytest.mark.slow
def test_students_of_an_exported_set_are_those_of_the_run(tmp_path: Path) -> None:
    """Trained by guard-eval: equal where the floats are, and equal to the run's PNGs where pixels are rounded."""
    from guard_plugins.cli.eval import main as evaluate
    from guard_plugins.cli.run import main as distil

    run, few = tmp_path / "run", ["--data.train-per-class", "20", "--data.test-per-class", "5", "--device", "cpu"]
    distil(["--method", "random", "--ipc", "2", "--teacher.epochs", "1", "--student.epochs", "2", *few,
            "--evaluation.images", "10", "--output", str(run)])  # fmt: skip
    stored = load_distilled(run / "distilled").as_stored()
    save_distilled(tmp_path / "rounded", stored, tuple(map(str, range(10))))

    def student(path: Path) -> dict[str, object]:
        output = tmp_path / f"{path.name}.json"
        assert evaluate(["--distilled", str(path), "--dataset", "digits", "--epochs", "3", "--images", "20",
                         "--device", "cpu", "--output", str(output)]) == 0  # fmt: skip
        found: dict[str, object] = json.loads(output.read_text())
        return {key: found[key] for key in ("model", "curvature")}

    expected = {"dd-ranking": student(run), "sre2l": student(tmp_path / "rounded")}
    expected["parquet"] = expected["sre2l"]
    for name in expected:
        main(["export", str(run), "--format", name, "--output", str(target(tmp_path, name))])
        assert student(target(tmp_path, name)) == expected[name]
