"""Files are written whole, with the mode the umask gives, with equal bytes, and never through a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from guard_plugins.artifacts.atomic import append_text, write_text
from guard_plugins.artifacts.figures import About, Figures, save_figures
from guard_plugins.artifacts.tensors import write_tensors
from guard_plugins.artifacts.tree import save_tree
from guard_plugins.errors import ArtifactError
from tests.artifacts.test_full_disk import CARD, distilled, save_distilled, teacher, write_teacher

CLEAN = {"clean": np.zeros((1, 1, 2, 2), np.float32), "labels": np.array([0])}
WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: write_text(path, "new"),
    "tensors": lambda path: write_tensors(path, {"x": torch.ones(2)}),
    "tree": lambda path: save_tree(path, {"x": torch.ones(2)}),
    "teacher": lambda path: write_teacher(path, teacher(), CARD),
    "figures": lambda path: save_figures(path, Figures(About(("a",), (0.1,), "pgd", 0.1), CLEAN)),
}


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A file outside of the folder, which must stay as it is."""
    path = tmp_path / "precious"
    path.write_text("gold")
    (tmp_path / "run").mkdir()
    yield path
    assert path.read_text() == "gold"


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("suffix", ["", ".part"])
def test_nothing_is_written_through_a_link(writer: str, suffix: str, precious: Path) -> None:
    path = precious.parent / "run" / "file"
    path.with_name(path.name + suffix).symlink_to(precious)
    WRITERS[writer](path)
    assert path.is_file()
    assert not path.is_symlink()
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("link", [os.symlink, os.link, lambda _, path: os.mkfifo(path)], ids=["soft", "hard", "pipe"])
def test_nothing_is_appended_through_a_link_or_to_a_pipe(link: Callable[..., None], precious: Path) -> None:
    path = precious.parent / "run" / "events.jsonl"
    link(precious, path)
    with pytest.raises(ArtifactError, match="Cannot write"):
        append_text(path, "line\n")


def test_text_is_appended(tmp_path: Path) -> None:
    for line in ("one\n", "two\n"):
        append_text(tmp_path / "events.jsonl", line)
    assert (tmp_path / "events.jsonl").read_text() == "one\ntwo\n"


def test_a_folder_in_the_way_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "report.json.part").mkdir()
    with pytest.raises(ArtifactError, match=r"Cannot write .*report\.json"):
        write_text(tmp_path / "report.json", "x")
    (tmp_path / "report.md").mkdir()
    with pytest.raises(ArtifactError, match=r"Cannot write .*report\.md"):
        write_text(tmp_path / "report.md", "x")
    assert not (tmp_path / "report.md.part").exists()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_get_the_mode_the_umask_gives(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        for name, write in WRITERS.items():
            write(tmp_path / name)
        append_text(tmp_path / "events", "x")
        save_distilled(tmp_path / "set", distilled(), ("a", "b"))
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == len(WRITERS) + 1 + 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~umask}


def test_text_that_utf_8_cannot_hold_is_escaped(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "run \udc80")
    assert (tmp_path / "x").read_text() == "run \\udc80"


METADATA = {f"key {n}": f'value {n} "é" \n \x01 \x7f \\ / \u2028' for n in range(8)}


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    """Without sorting, one in many writes has the order of another: safetensors draws it anew for every file."""
    tensors = {name: torch.arange(3) for name in "cab"} | {"half": torch.ones(2, dtype=torch.bfloat16)}
    for n in range(5):
        write_tensors(tmp_path / str(n), tensors, METADATA)
    assert len({(tmp_path / str(n)).read_bytes() for n in range(5)}) == 1


def test_sorted_metadata_is_all_there_and_so_are_the_tensors(tmp_path: Path) -> None:
    from safetensors import safe_open

    tensors = {"b": torch.rand(3, 2), "a": torch.arange(5), "none": torch.zeros(0, 3), "one": torch.tensor(True)}
    write_tensors(tmp_path / "x", tensors, METADATA)
    with safe_open(tmp_path / "x", framework="pt") as file:
        assert file.metadata() == METADATA
    back = load_file(tmp_path / "x")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    write_tensors(tmp_path / "empty", {}, {"b": "1", "a": "2"})
    assert load_file(tmp_path / "empty") == {}
