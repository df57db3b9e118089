"""What lies in a tree of class folders beside its images: no file, link or folder is passed over without a word."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from guard_plugins.data.base import Data, DataRequest
from guard_plugins.data.datasets.folder import Folder
from guard_plugins.data.images import decode
from guard_plugins.errors import DataError


def load(root: Path, **request: Any) -> Data:
    return Folder().load(DataRequest(root=root, **request))


def test_files_of_kinds_that_are_not_read_are_counted(tree: Path) -> None:
    for name in ("a.HEIC", "b.heic", "c.avif", "without", "notes.txt", "Thumbs.db", ".hidden"):
        (tree / "train" / "ant" / name).write_bytes(b"x")
    for split in ({}, {"split": 0.5}):
        if split:
            shutil.rmtree(tree / "test")
        notes = [note for note in load(tree, **split).notes if "class folders" in note]
        assert notes == [
            "4 files in class folders are not read, as their endings are none of an image's: 2 .heic, 1 .avif, "
            f"1 without one; such as {tree / 'train' / 'ant' / 'a.HEIC'}"
        ]


def test_images_of_no_class_are_counted(tree: Path) -> None:
    shutil.copy(tree / "train" / "ant" / "0.png", tree / "train" / "stray.png")
    assert load(tree).notes == (f"1 images in {tree / 'train'} are not read, as they lie in no class folder",)


def test_a_tidy_tree_has_no_notes(tree: Path) -> None:
    assert load(tree).notes == ()


@pytest.mark.parametrize("whole", [True, False])
def test_a_folder_that_is_in_both_splits_is_refused(tree: Path, whole: bool) -> None:
    linked = tree / "test" if whole else tree / "test" / "bee"
    shutil.rmtree(linked)
    linked.symlink_to(tree / "train" if whole else tree / "train" / "bee")
    with pytest.raises(DataError, match="are one folder, so the test images would be those that are trained on") as e:
        load(tree)
    assert "--data.split 0.2" in e.value.do


@pytest.mark.parametrize("goal", ["nowhere", "dog"])
def test_a_link_to_a_class_that_leads_nowhere_is_refused(tree: Path, goal: str) -> None:
    for split in ("train", "test"):
        (tree / split / "dog").symlink_to(goal)
    with pytest.raises(DataError, match="leads nowhere, so a class may be missing") as caught:
        load(tree)
    assert caught.value.seen == f"it says {goal}"


def test_a_link_to_a_file_that_leads_nowhere_is_no_class(tree: Path) -> None:
    (tree / "train" / "labels.csv").symlink_to("nowhere.csv")
    assert load(tree).notes == ()


def test_a_folder_in_a_class_that_cannot_be_read_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = tree / "train" / "ant" / "more"
    hidden.mkdir()
    scan = os.scandir

    def denied(path: Any) -> Any:  # root may read everything
        if Path(path) == hidden:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match=f"The folder {hidden} cannot be read") as caught:
        load(tree)
    assert "Permission denied" in caught.value.seen


def test_a_root_that_may_not_be_read_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DataError, match="may not be read"):
        load(tree)


def test_a_program_in_place_of_an_image_is_not_run(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    page = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n%%EndComments\nshowpage\n"
    (tree / "train" / "ant" / "9.png").write_text(page)
    Image.init()
    monkeypatch.setitem(Image.OPEN, "EPS", (lambda *_: pytest.fail("opened as EPS"), Image.OPEN["EPS"][1]))
    with pytest.raises(DataError, match=r"9\.png cannot be read"):
        load(tree)
    assert Folder().side(DataRequest(root=tree)) == 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "ICO", "TGA"])
def test_a_name_with_the_ending_of_another_kind_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("x.jpg" if kind == "PNG" else "x.png")
    Image.new("RGB", (4, 4), (10, 20, 30)).save(path, format=kind)
    assert decode.read_header(path).width == 4
