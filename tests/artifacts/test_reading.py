"""What is read back is what a run could have written, or one clear error with exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from guard_plugins.artifacts.figures import FIGURES, load_figures
from guard_plugins.artifacts.ledger import Ledger
from guard_plugins.artifacts.reading import read_json
from guard_plugins.artifacts.report import read_report
from guard_plugins.artifacts.tree import load_tree, save_tree
from guard_plugins.errors import DamagedError
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from tests.report.folders import GUARD, write_run


def refused(read: Callable[[], object], path: Path) -> str:
    """Return what is seen of a damaged file, after a look at the rest of the error."""
    with pytest.raises(DamagedError) as caught:
        read()
    assert str(path) in caught.value.what
    assert caught.value.do
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.seen
    return caught.value.seen


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", "Expecting value"), ("[" * 100_000, "recursion"), ('{"a": 1, "a": 2}', "'a' is there twice"),
        ("[NaN]", "NaN is no number"), ("[-Infinity]", "-Infinity is no number"), ("[1e999]", "too large"),
        ("9" * 5000, "4300 digits"), ("\udcff", "utf-8"), ("{} {}", "Extra data"),
    ],
)  # fmt: skip
def test_json_that_is_none_is_refused(text: str, seen: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert seen in refused(lambda: read_json(path, do="x"), path)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder", "missing", "/dev/zero"):
        refused(lambda name=name: read_json(tmp_path / name, do="x"), Path(name) if name[0] == "/" else tmp_path / name)  # type: ignore[misc]


REPORTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "clean 5": (lambda r: r["models"]["student"].update(clean=5.0), "models.student.clean"),
    "clean -1": (lambda r: r["models"]["student"].update(clean=-1), "models.student.clean"),
    "clean NaN": (lambda r: r["models"]["student"].update(clean=float("nan")), "NaN is no number"),
    "accuracy 2": (lambda r: r["models"]["student"]["robust"][0].update(accuracy=2), "robust.0.accuracy"),
    "eps -1": (lambda r: r["models"]["student"]["robust"][0].update(eps=-1), "robust.0.eps"),
    "eps text": (lambda r: r["models"]["student"]["robust"][0].update(eps="0.1"), "robust.0.eps"),
    "images true": (lambda r: r["models"]["student"]["robust"][0].update(images=True), "robust.0.images"),
    "ipc -5": (lambda r: r.update(ipc=-5), "ipc"),
    "ipc true": (lambda r: r.update(ipc=True), "ipc"),
    "ipc text": (lambda r: r.update(ipc="10"), "ipc"),
    "h_rms text": (lambda r: r["guard"].update(h_rms="long"), "h_rms"),
    "no weight": (lambda r: r["guard"].update(weight=None), "weight"),
    "guard list": (lambda r: r.update(guard=[1]), "guard"),
    "seconds": (lambda r: r.update(seconds={"teacher": "long"}), "seconds"),
    "models null": (lambda r: r.update(models=None), "models"),
    "no student": (lambda r: r["models"].pop("student"), "models.student"),
    "gate": (lambda r: r.update(gate={"student": [{}]}), "gate.student.0"),
    "unknown": (lambda r: r.update(more=1), "more"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_reports_no_run_could_have_written_are_refused(name: str, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", guard=GUARD) / "report.json"
    assert read_report(path).guard == GUARD
    content = json.loads(path.read_text())
    spoil, seen = REPORTS[name]
    spoil(content)
    path.write_text(json.dumps(content))
    assert seen in refused(lambda: read_report(path), path)


FIGURE_ARRAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no clean": lambda a: a.pop("clean"),
    "no labels": lambda a: a.pop("labels"),
    "empty clean": lambda a: a.update(clean=np.zeros((0, 1, 8, 8), np.float32)),
    "clean of 2 channels": lambda a: a.update(clean=np.zeros((2, 2, 8, 8), np.float32)),
    "clean NaN": lambda a: a.update(clean=a["clean"] * np.nan),
    "clean 3-d": lambda a: a.update(clean=a["clean"][0]),
    "label 2 of 2": lambda a: a.update(labels=np.array([0, 2])),
    "label -1": lambda a: a.update(labels=np.array([0, -1])),
    "labels float": lambda a: a.update(labels=np.array([0.0, 1.0])),
    "one label": lambda a: a.update(labels=np.array([0])),
    "no before": lambda a: a.pop("student/before"),
    "no after": lambda a: a.pop("student/after"),
    "before 9": lambda a: a.update({"student/before": np.array([9, 9])}),
    "after 1-d": lambda a: a.update({"student/after": np.array([0, 1])}),
    "one radius": lambda a: a.update({"student/adversarial": a["student/adversarial"][:1]}),
    "no slices": lambda a: a.update({"student/slices": np.zeros((0, 21, 21), np.float32)}),
    "slices 1-d": lambda a: a.update({"student/slices": np.zeros(3, np.float32)}),
    "norm 2-d": lambda a: a.update({"student/norm": np.zeros((3, 3), np.float32)}),
    "norm bool": lambda a: a.update({"student/norm": np.zeros(3, bool)}),
}
ABOUT: dict[str, dict[str, Any]] = {
    "classes": {"classes": []}, "class 1": {"classes": [1, 2]}, "radii": {"radii": None}, "no radii": {"radii": []},
    "radius 0": {"radii": [0.0, 1.0, 2.0]}, "attack": {"attack": 5}, "h": {"h": None}, "h text": {"h": "1"},
    "more": {"more": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", [*FIGURE_ARRAYS, *ABOUT, "no about", "about list"])
def test_figures_no_run_could_have_written_are_refused(name: str, tmp_path: Path) -> None:
    from safetensors import safe_open

    path = write_run(tmp_path / "run") / FIGURES
    assert load_figures(path).about.radii
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()["about"])
    arrays = load_file(path)
    if name in FIGURE_ARRAYS:
        FIGURE_ARRAYS[name](arrays)
    metadata = {"about": json.dumps([1] if name == "about list" else {**about, **ABOUT.get(name, {})})}
    save_file(arrays, path, metadata=None if name == "no about" else metadata)
    refused(lambda: load_figures(path), path)


STAGE = {"inputs": "x", "files": {"a": "b"}, "notes": {}}


@pytest.mark.parametrize(
    "content",
    [
        [], None, {"teacher": None}, {"teacher": []}, {"teacher": {**STAGE, "files": None}},
        {"teacher": {**STAGE, "files": ["a"]}}, {"teacher": {**STAGE, "files": {"a": 1}}},
        {"teacher": {**STAGE, "notes": None}}, {"teacher": {**STAGE, "notes": {"hook": {"steps": 1}}}},
        {"teacher": {**STAGE, "inputs": 5}}, {"teacher": {**STAGE, "files": {"/etc/passwd": "x"}}},
        {"teacher": {**STAGE, "files": {"../../x": "x"}}}, {"teacher": {**STAGE, "files": {"a\0b": "x"}}},
    ],
)  # fmt: skip
def test_a_record_of_stages_no_run_could_have_written_is_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "stages.json"
    path.write_text(json.dumps(content))
    refused(lambda: Ledger(path), path)


def test_the_record_of_stages_comes_back_as_it_was(tmp_path: Path) -> None:
    hook = {
        "steps": 2,
        "regularised_steps": 1,
        "mean_loss": 1.0,
        "mean_term": 0.0,
        "mean_gradient_norm": 1.0,
        "mean_curvature": 3,
    }
    (tmp_path / "a").write_text("x")
    Ledger(tmp_path / "stages.json").finish("distill", "inputs", [tmp_path / "a"], hook=hook, more=[1])
    Ledger(tmp_path / "stages.json").finish("relabel", "inputs", [])
    back = Ledger(tmp_path / "stages.json")
    assert back.notes("distill") == {"hook": hook, "more": [1]}
    assert back.notes("relabel") == back.notes("none") == {}
    assert back.why_redo("distill", "inputs") is None


@pytest.mark.parametrize(
    "tree",
    [
        [1, 2], 5, {"done": -5, "inputs": "", "state": {}}, {"done": True, "inputs": "", "state": {}},
        {"done": 1, "inputs": 3, "state": {}}, {"done": 1, "inputs": "", "state": []}, {"done": 1, "inputs": ""},
    ],
)  # fmt: skip
def test_a_state_that_is_none_is_refused(tree: Any, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every=1.0)
    checkpoints.save("loop", 1, dict)
    (path,) = tmp_path.iterdir()
    save_tree(path, tree)
    refused(lambda: checkpoints.load("loop"), path)


def test_every_flipped_bit_of_a_state_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    state = {"x": torch.arange(6.0).view(2, 3), "half": torch.ones(3, dtype=torch.bfloat16), "flag": torch.tensor(True)}
    save_tree(path, {"done": 3, "state": state, "empty": torch.zeros(0, 2)})
    assert torch.equal(load_tree(path)["state"]["x"], state["x"])
    whole = path.read_bytes()
    unnoticed = []
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        try:
            back = load_tree(path)
        except DamagedError:
            continue
        if not all(torch.equal(back["state"][name], state[name]) for name in state) or back["done"] != 3:
            unnoticed.append(position)
    assert unnoticed == []
