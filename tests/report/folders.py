"""Folders of finished runs, written without training anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from PIL import Image

from guard_plugins.artifacts.figures import FIGURES, About, Figures, save_figures
from guard_plugins.artifacts.report import CurvatureReport, GateItem, ModelReport, Models, Report, RobustAccuracy

RADII = (1, 4, 16)
NAMES = {"pgd": "PGD", "cw": "CW", "cw-linf": "CW-L∞", "autoattack": "AutoAttack", "square": "Square"}
GUARD = {"h": None, "h_rms": 16 / 255, "weight": 1.0, "penalty": "loss", "every": 1}


def model(clean: float, *robust: float, attack: str = "pgd-20", more: Sequence[RobustAccuracy] = ()) -> ModelReport:
    """Return a model with accuracies under one attack at 1, 4 and 16 over 255."""
    entries = [
        RobustAccuracy(attack=attack, norm="Linf", eps=eps / 255, accuracy=accuracy, images=100)
        for eps, accuracy in zip(RADII, robust, strict=True)
    ]
    return ModelReport(clean=clean, robust=[*entries, *more])


def item(verdict: str = "passed", name: str = "some check") -> GateItem:
    """Return an item of the gate."""
    return GateItem.model_validate(
        {"name": name, "verdict": verdict, "figure": "a figure", "value": 0.5, "suggests": "a remedy"}
    )


def write_run(
    folder: Path,
    *,
    method: str = "sre2l",
    seed: int = 0,
    guard: Mapping[str, Any] | None = None,
    training: str = "plain",
    student: ModelReport | None = None,
    teacher: ModelReport | None = None,
    hard: ModelReport | None = None,
    gate: Sequence[GateItem] = (),
    config: Mapping[str, Any] | None = None,
    classes: Sequence[str] = ("zero", "one"),
    dataset: str = "digits",
    ipc: int = 10,
    offset: float = 0.0,
    learned_from: Literal["soft", "hard", "own"] | None = None,
    hard_gate: Sequence[GateItem] = (),
) -> Path:
    """Write everything a report reads into ``folder`` and return it."""
    folder.mkdir(parents=True)
    report = Report(
        method=method, dataset=dataset, ipc=ipc, seed=seed, protocol="quick", training=training,
        guard=dict(guard) if guard else None, hook=None, seconds={"teacher": 10.0, "students": 20.5},
        models=Models(
            teacher=teacher or model(0.95, 0.9, 0.8, 0.6), student=student or model(0.9, 0.8, 0.6, 0.3),
            student_hard=hard or model(0.7, 0.6, 0.3, 0.1),
        ),
        gate={kind: list(items) for kind, items in (("student", gate), ("student_hard", hard_gate)) if items},
        learned_from=learned_from,
        curvature={"teacher": CurvatureReport(h=0.5, images=8, gradient_norm=0.1, along_gradient=1, eigenvalue=2)},
    )  # fmt: skip
    (folder / "report.json").write_text(report.model_dump_json())
    settings = {"method": method, "dataset": dataset, "ipc": ipc, "seed": seed, "student": {"network": None},
                "teacher": {"network": "small-resnet", "path": None, "training": training}}  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump({**settings, **(config or {})}))
    manifest = {"created": "2026-01-02T03:04:05+0000", "command": ["/opt/bin/guard-run", "--method", method, "a b"],
                "versions": {"torch": "2.6"}, "machine": {"cpus": 2}, "git": None, "attacks": NAMES}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    Image.fromarray(np.full((16, 16, 3), 200, np.uint8)).save(folder / "distilled.png")
    save_figures(folder / FIGURES, figures(classes, offset))
    return folder


def figures(classes: Sequence[str] = ("zero", "one"), offset: float = 0.0) -> Figures:
    """Return small numbers behind pictures; ``offset`` makes the models' differ between runs."""
    rng = np.random.default_rng(0)
    clean = rng.random((2, 1, 8, 8)).astype(np.float16)
    arrays: dict[str, Any] = {"clean": clean, "labels": np.array([0, 1])}
    for kind in ("student", "teacher"):
        arrays[f"{kind}/adversarial"] = np.stack([np.clip(clean + eps / 255, 0, 1) for eps in RADII])
        arrays[f"{kind}/before"] = np.array([0, 1])
        arrays[f"{kind}/after"] = np.array([[0, 1], [0, 0], [1, 0]])
        arrays[f"{kind}/slices"] = rng.random((2, 21, 21)).astype(np.float32) + np.float32(offset)
        arrays[f"{kind}/norm"] = rng.random(16).astype(np.float32) + np.float32(offset)
        arrays[f"{kind}/curvature"] = rng.standard_normal(16).astype(np.float32) + np.float32(offset)
    return Figures(About(tuple(classes), tuple(eps / 255 for eps in RADII), "pgd-20", 0.5), arrays)
