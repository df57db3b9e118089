"""A disk that is full or read-only: the error names the file, and nothing half-written stays.

The disk is played by a limit on the size of files, which fails real writes of every library half-way.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from guard_plugins.artifacts.atomic import cannot_write, made, write_text
from guard_plugins.artifacts.contact_sheet import save_contact_sheet
from guard_plugins.artifacts.formats.dd_ranking import write_dd_ranking
from guard_plugins.artifacts.formats.sre2l import write_sre2l
from guard_plugins.artifacts.formats.torch_files import write_torch
from guard_plugins.artifacts.sets.distilled import save_distilled
from guard_plugins.artifacts.teacher import TeacherCard, write_teacher
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ArtifactError, TrainingError
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.sharing.claims import claimed

LIMIT = 4096


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file grows beyond ``LIMIT`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def distilled() -> DistilledSet:
    torch.manual_seed(0)
    return DistilledSet(torch.rand(4, 3, 64, 64), torch.tensor([0, 0, 1, 1]))


def teacher() -> Normalised:
    return Normalised(torch.nn.Linear(100, 100), mean=(0.5,), std=(0.5,))


CARD = TeacherCard(network="n", activation="relu", image_shape=(1, 10, 10), classes=("a", "b"), training="plain", guard=None)  # fmt: skip # noqa: E501

WRITERS: dict[str, Callable[[Path], object]] = {
    "teacher": lambda folder: write_teacher(folder / "teacher.safetensors", teacher(), CARD),
    "distilled set": lambda folder: save_distilled(folder, distilled(), ("a", "b")),
    "checkpoint": lambda folder: Checkpoints(folder, every=1.0).save("loop", 1, lambda: {"x": torch.zeros(LIMIT)}),
    "text": lambda folder: write_text(folder / "report.html", "x" * 2 * LIMIT),
    "contact sheet": lambda folder: save_contact_sheet(folder / "distilled.png", distilled()),
    "SRe2L's layout": lambda folder: write_sre2l(folder, distilled()),
    "DD-Ranking's layout": lambda folder: write_dd_ranking(folder, distilled()),
    "a .pt file": lambda folder: write_torch(folder / "x.pt", torch.zeros(LIMIT)),
    "events": lambda folder: Monitor(folder / "events.jsonl", quiet=True).say("x" * 2 * LIMIT),
}


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("writer", WRITERS)
def test_a_disk_that_is_full_half_way_is_one_clear_error(writer: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="Cannot write") as caught:
        WRITERS[writer](tmp_path)
    assert str(tmp_path) in caught.value.what
    assert os.strerror(errno.EFBIG) in caught.value.seen or writer == "a .pt file" or "DD" in writer
    assert "Free some disk space" in caught.value.do
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("writer", [name for name in WRITERS if name != "events"])
def test_a_read_only_folder_is_one_clear_error(writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write to a folder without the permission, so a folder that is none stands in for it.
    (tmp_path / "run").write_text("")
    with pytest.raises(ArtifactError, match="Cannot write") as caught:
        WRITERS[writer](tmp_path / "run")
    assert os.strerror(errno.ENOTDIR) in caught.value.seen or os.strerror(errno.EEXIST) in caught.value.seen


def test_a_full_disk_leaves_no_claim_that_would_hold_up_the_resumed_run(tmp_path: Path) -> None:
    path = tmp_path / "item.claim"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(ArtifactError, match=r"Cannot write .*item\.claim"), claimed(path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
    with claimed(path) as mine:
        assert mine


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(ArtifactError, match=r"Cannot write .*checkpoints") as caught:
        made(tmp_path / "checkpoints")
    assert caught.value.seen == "Read-only file system"


def test_a_teacher_that_went_wrong_in_its_last_step_is_not_stored(tmp_path: Path) -> None:
    model = teacher()
    with torch.no_grad():
        model.network.weight[3, 4] = torch.nan
    with pytest.raises(TrainingError, match="weights that are not finite") as caught:
        write_teacher(tmp_path / "teacher.safetensors", model, CARD)
    assert "1 of" in caught.value.seen
    assert "--guard.weight" in caught.value.do
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Make sure that you may write there"),
        (OSError(errno.EROFS, "Read-only file system"), "Make sure that you may write there"),
        (SafetensorError("I/O error: Permission denied (os error 13)"), "Make sure that you may write there"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "Look why its folder is gone"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "Give a shorter name"),
        (IsADirectoryError(errno.EISDIR, "Is a directory"), "Remove what is in its place"),
        (OSError(errno.ENOSPC, "No space left on device"), "Free some disk space"),
        (SafetensorError("I/O error: File too large (os error 27)"), "Free some disk space"),
        (OSError("no number"), "Free some disk space"),
    ],
)
def test_the_remedy_fits_the_cause(error: Exception, remedy: str) -> None:
    told = cannot_write(Path("x"), error)
    assert told.do.startswith(f"{remedy}, or choose another folder")
    assert told.what == "Cannot write x"
