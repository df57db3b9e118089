"""Artifacts of a run, damaged in many ways, and the commands that read them."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from tests.hostile.judge import Tally, without_work

NASTY: tuple[Any, ...] = (
    None, True, -5, 0, 1.7, 10**30, float("nan"), float("inf"), "", "x", "\ud800", [], {}, [[]], [None], {"a": 1},
    "/etc/passwd", "../../x", "a\0b", [1] * 50,
)  # fmt: skip
CHANGES: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    lambda tensor: tensor.reshape(-1)[:1].clone(), lambda tensor: tensor.double(), lambda tensor: tensor[None].clone(),
    lambda tensor: torch.full_like(tensor, 127), lambda _: torch.zeros(0), lambda tensor: tensor.to(torch.int64),
    lambda tensor: torch.full(tensor.shape, torch.nan), lambda tensor: tensor.bool(),
)  # fmt: skip
TINY = (
    "--method", "random", "--ipc", "1", "--teacher.epochs", "1", "--student.epochs", "2", "--evaluation.images", "10",
    "--evaluation.protocol", "fgsm", "--evaluation.eps", "8", "--data.train-per-class", "10",
    "--data.test-per-class", "4",
    "--device", "cpu", "--student.labels", "stored",
)  # fmt: skip


def spoiled(rng: random.Random, tree: Any) -> Any:
    """Return a copy of JSON values with one of them replaced, removed or repeated."""
    if isinstance(tree, dict) and tree and rng.random() < 0.85:
        key = rng.choice(list(tree))
        if rng.random() < 0.15:
            return {name: inner for name, inner in tree.items() if name != key}
        if rng.random() < 0.1:
            return {**tree, f"{key}x": tree[key]}
        return {**tree, key: spoiled(rng, tree[key])}
    if isinstance(tree, list) and tree and rng.random() < 0.7:
        at = rng.randrange(len(tree))
        return [*tree[:at], spoiled(rng, tree[at]), *tree[at + 1 :]]
    return rng.choice(NASTY)


def damage_structure(rng: random.Random, path: Path) -> None:
    """Damage what a file says, so that it still is of its format."""
    if path.suffix == ".json":
        path.write_text(json.dumps(spoiled(rng, json.loads(path.read_text()))))
    elif path.suffix == ".yaml":
        path.write_text(json.dumps(spoiled(rng, yaml.safe_load(path.read_text()))))
    elif path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        at = rng.randrange(len(lines))
        lines[at] = json.dumps(spoiled(rng, json.loads(lines[at])))
        path.write_text("\n".join(lines))
    elif path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        name = rng.choice([*tensors, ""])
        if metadata and rng.random() < 0.5:
            key = rng.choice(list(metadata))
            try:
                metadata[key] = json.dumps(spoiled(rng, json.loads(metadata[key])))
            except ValueError:
                metadata[key] = "x"
        elif rng.random() < 0.2 or not name:
            tensors.pop(name, None)
        else:
            tensors[name] = rng.choice(CHANGES)(tensors[name])
        save_file(tensors, path, metadata=metadata)
    else:
        damage_bytes(rng, path)


def damage_bytes(rng: random.Random, path: Path) -> None:
    """Damage the bytes of a file."""
    whole = bytearray(path.read_bytes())
    at = rng.randrange(len(whole) + 1)
    kind = rng.randrange(6)
    if kind == 0:
        whole = whole[:at]
    elif kind == 1 and whole:
        whole[at - 1] ^= 1 << rng.randrange(8)
    elif kind == 2:
        whole[at : at + 20] = rng.randbytes(20)
    elif kind == 3:
        whole = bytearray()
    elif kind == 4:
        whole = bytearray(rng.randbytes(rng.randrange(200)))
    else:
        whole = bytearray(rng.choice([b"[" * 100_000, b'{"a": ' * 100_000, b"\xff" * 64, b"\0" * 1000]))
    path.write_bytes(whole)


def damage_place(rng: random.Random, path: Path) -> None:
    """Put something in the place of a file that is none."""
    path.unlink()
    kind = rng.randrange(5)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(path.name)
    elif kind == 3:
        path.symlink_to("/dev/zero")


def unfinished(whole: Path, folder: Path, state: Path) -> None:
    """Copy a finished run back to a moment within its students' training."""
    shutil.copytree(whole, folder)
    for path in folder.glob("report.*"):
        path.unlink()
    stages = json.loads((folder / "stages.json").read_text())
    kept = {name: entry for name, entry in stages.items() if name in ("teacher", "distill", "relabel")}
    (folder / "stages.json").write_text(json.dumps(kept))
    shutil.copytree(state, folder / "checkpoints")


def prepare(folder: Path) -> tuple[Path, Path]:
    """Return a finished tiny run, and the states its loops had saved."""
    from guard_plugins.cli import run
    from guard_plugins.runtime.keeping.checkpoints import Checkpoints

    whole, states = folder / "whole", folder / "states"

    def keep(checkpoints: Checkpoints) -> None:
        assert checkpoints.folder is not None
        shutil.move(checkpoints.folder, states)

    forget, Checkpoints.forget = Checkpoints.forget, keep  # type: ignore[method-assign]
    try:
        code = run.main([*TINY, "--output", str(whole), "--checkpoint-every", "0.001"])
    finally:
        Checkpoints.forget = forget  # type: ignore[method-assign]
    if code:
        raise AssertionError(f"the run to damage ended with {code}")
    return whole, states


def _reader(number: int, here: Path) -> tuple[Callable[[Sequence[str]], int], list[str]]:
    """Return a command that reads a run, and its arguments; every fourth run is not finished."""
    from guard_plugins.cli import eval as evaluation
    from guard_plugins.cli import report, run

    if number % 4 < 2:
        return run.main, ["--resume", str(here)]
    if number % 4 == 3:
        return report.main, [str(here), "--output", str(here.parent / "page.html")]
    labelled = ["--distilled", str(here), "--labels", "stored"]
    given = [str(here / "teacher.safetensors")] if number % 8 == 2 else labelled
    return evaluation.main, [*given, "--device", "cpu", "--images", "10"]


def try_damaged(count: int, seed: int, folder: Path, prepared: tuple[Path, Path]) -> Tally:
    """Damage one file of a run at a time and have the commands read it."""
    rng, tally, (whole, states) = random.Random(seed), Tally(), prepared
    for number in range(count):
        here = folder / "damaged"
        shutil.rmtree(here, ignore_errors=True)
        going_on = number % 4 == 0
        unfinished(whole, here, states) if going_on else shutil.copytree(whole, here)
        small = [path for path in sorted(here.rglob("*")) if path.is_file() and path.suffix not in (".html", ".md")]
        plain = [path for path in small if path.suffix != ".png"] + [next(p for p in small if p.suffix == ".png")]
        victim = rng.choice(
            [p for p in plain if "checkpoints" in p.parts] if going_on and rng.random() < 0.7 else plain
        )
        rng.choice([damage_structure, damage_structure, damage_bytes, damage_place])(rng, victim)
        name = f"damage {seed}/{number}: {victim.relative_to(here)}"
        before = {path for path in here.rglob("*") if path.suffix != ".part"}
        with without_work():
            tally.judge(name, *_reader(number, here))
        lost = [path for path in before if not os.path.lexists(path) and path.name != ".lock"]
        if lost:
            tally.faults.append(f"{name}: lost {lost}")
    return tally
