"""``--student.labels stored`` in whole runs: labelled once, resumed, and refused where it cannot be."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from guard_plugins import Report
from guard_plugins.artifacts.ledger import Ledger
from guard_plugins.cli.arguments import parse
from guard_plugins.errors import ArtifactError, ConfigError
from guard_plugins.labels import relabel as stage
from guard_plugins.pipeline.run import resume
from guard_plugins.runtime.signals import StoppedError
from tests.pipeline import faults
from tests.pipeline.conftest import numbers

TinyRun = Callable[..., tuple[Report, Path]]
STORED = {"epochs": 12, "labels": "stored", "cutmix": 1.0, "count": 2}
LABELS = ["epochs-000000.safetensors", "epochs-000010.safetensors"]


def finish(folder: Path) -> Report:
    return resume(folder, parse(["--resume", str(folder)]).config)


def labels(folder: Path) -> dict[str, Any]:
    """Return all numbers; the files' bytes also hold a fingerprint of the teacher's file, which holds times."""
    return {
        path.name: {name: tensor.tolist() for name, tensor in load_file(path).items()}
        for path in sorted((folder / "labels").iterdir())
    }


@pytest.mark.slow
def test_a_run_says_the_cost_stores_the_labels_and_records_them(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    report, folder = tiny_run("sre2l", "run", student=STORED)
    said = (
        f"soft labels will be stored in {folder / 'labels'}: 12 epochs x 10 images x (20 bytes of float16 logits + 8 "
    )
    assert said in capsys.readouterr().err
    assert list(labels(folder)) == LABELS
    assert set(Ledger(folder / "stages.json").hashes("relabel")) == {f"labels/{name}" for name in LABELS}
    assert "relabel" in report.seconds
    assert report.models.student.models == 2
    assert report.models.student.sd is not None


def test_hard_labels_cannot_be_stored(tiny_run: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"students of 'dc' learn from hard labels: .* \(--student.labels\)"):
        tiny_run("dc", "run", student=STORED)
    assert not (tmp_path / "run").exists()


def test_a_disk_without_room_is_refused_before_the_teacher(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "free")(1000))
    with pytest.raises(ArtifactError, match="The disk has no room for the stored labels") as caught:
        tiny_run("sre2l", "run", student=STORED)
    assert caught.value.seen.startswith("1.0 kB free, 7.6 kB needed: 12 epochs x 10 images")
    assert not (tmp_path / "run" / "teacher.safetensors").exists()


@pytest.mark.slow
def test_a_run_stopped_while_relabelling_ends_the_same(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = tiny_run("sre2l", "whole", student=STORED)
    original, written = stage.write_shard, []

    def write(path: Path, *arguments: Any) -> None:
        if len(written) == 1:
            raise StoppedError(15)
        written.append(path)
        original(path, *arguments)

    monkeypatch.setattr(stage, "write_shard", write)
    with pytest.raises(StoppedError):
        tiny_run("sre2l", "stopped", student=STORED)
    monkeypatch.undo()
    assert list(labels(tmp_path / "stopped")) == LABELS[:1]
    before = (tmp_path / "stopped" / "labels" / LABELS[0]).stat().st_mtime_ns
    finish(tmp_path / "stopped")
    assert (tmp_path / "stopped" / "labels" / LABELS[0]).stat().st_mtime_ns == before
    assert labels(tmp_path / "stopped") == labels(whole)
    assert numbers(tmp_path / "stopped") == numbers(whole)


@pytest.mark.slow
def test_a_damaged_shard_of_a_finished_run_is_named_and_labelled_again(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = tiny_run("sre2l", "run", student=STORED)
    expected, report = labels(folder), numbers(folder)
    path, other = (folder / "labels" / name for name in LABELS)
    path.write_bytes(path.read_bytes()[:-7])
    before = other.stat().st_mtime_ns
    finish(folder)
    err = capsys.readouterr().err
    assert f"relabel is done again: labels/{LABELS[0]} was altered or truncated" in err
    assert f"{LABELS[0]} is labelled again" in err
    assert "distill is done again" not in err
    assert other.stat().st_mtime_ns == before
    assert (labels(folder), numbers(folder)) == (expected, report)


@pytest.mark.slow
def test_a_run_with_stored_labels_killed_three_times_ends_as_if_never_touched(tmp_path: Path) -> None:
    faults.check("sre2l", 3, 2, tmp_path, (*faults.TINY, *faults.OWN["sre2l"], "--student.labels", "stored"))
    killed = [folder for folder in tmp_path.glob("killed*") if folder.is_dir()]
    assert killed
    assert all(labels(folder) == labels(tmp_path / "whole") for folder in killed)
