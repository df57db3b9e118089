"""What is kept of a run: its command, report and surroundings, in one file without any path of the machine."""

from __future__ import annotations

import json
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from examples.experiments.plan import Run
from guard_plugins.artifacts.atomic import write_text
from guard_plugins.artifacts.evaluation import Evaluation
from guard_plugins.artifacts.figures import FIGURES, load_figures
from guard_plugins.artifacts.report import Models, Report

PACKAGES = ("guard-plugins", "torch", "torchvision", "numpy", "pyautoattack")


class Landscape(BaseModel):
    """How the loss of a model changes along the gradient, the mean over example images.

    Attributes:
        reach: L2 distance of the outermost points from the image, in pixel units, both ways.
        loss: Losses at equal distances, from against the gradient to along it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reach: float
    loss: list[float]


class Record(BaseModel):
    """The raw result of one run.

    Attributes:
        command: The command, with placeholders for folders.
        machine: Processor, cores and system.
        versions: Python and the packages numbers depend on.
        report: Of a guard-run.
        evaluation: Of a guard-eval.
        landscape: By kind of model, where a guard-run measured it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str
    machine: str
    versions: dict[str, str]
    report: Report | None = None
    evaluation: Evaluation | None = None
    landscape: dict[str, Landscape] = {}


def write_record(path: Path, run: Run, work: Path) -> None:
    """Write the record of a finished run.

    Args:
        path: The file.
        run: The run.
        work: Folder of the runs.
    """
    found: dict[str, Any]
    if run.evaluates:
        found = json.loads((work / run.output).read_text(encoding="utf-8"))
        content = {"evaluation": {**found, "subject": _relative(found["subject"], work)}}
    else:
        folder = work / run.name
        content = {
            "report": json.loads((folder / "report.json").read_text(encoding="utf-8")),
            "landscape": landscape(folder / FIGURES) if (folder / FIGURES).exists() else {},
        }
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    record = Record.model_validate({"command": run.template, "machine": machine(), "versions": versions, **content})
    unused = {"report"} if run.evaluates else {"evaluation"}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record.model_dump(mode="json", exclude=unused), indent=1) + "\n")


def machine() -> str:
    """Return GPU, processor, cores and system in a line."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else []
    gpus = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    return ", ".join([*gpus, names[0] if names else platform.processor(), f"{os.cpu_count()} cores", platform.system()])


def landscape(path: Path) -> dict[str, Landscape]:
    """Return the mean slices through the loss that a run stored for its report.

    Args:
        path: The run's ``figures.safetensors``.
    """
    figures, found = load_figures(path), {}
    for kind in Models.model_fields:
        slices = figures.of(kind, "slices")
        if slices is not None:
            along = slices[:, :, slices.shape[2] // 2].mean(axis=0)
            found[kind] = Landscape(reach=2 * figures.about.h, loss=[round(float(loss), 5) for loss in along])
    return found


def _relative(text: str, work: Path) -> str:
    return text.removeprefix(f"{work}/")
