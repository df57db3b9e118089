"""What is kept of a run: its command, report and surroundings, in one file without any path of the machine."""

from __future__ import annotations

import json
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from examples.experiments.plan import Run
from guard_plugins.artifacts.atomic import write_text
from guard_plugins.report.model import Evaluation, Report

PACKAGES = ("guard-plugins", "torch", "torchvision", "numpy", "pyautoattack")


class Record(BaseModel):
    """The raw result of one run.

    Attributes:
        command: The command, with placeholders for folders.
        machine: Processor, cores and system.
        versions: Python and the packages numbers depend on.
        report: Of a guard-run.
        evaluation: Of a guard-eval.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str
    machine: str
    versions: dict[str, str]
    report: Report | None = None
    evaluation: Evaluation | None = None


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
        content = {"report": json.loads((work / run.name / "report.json").read_text(encoding="utf-8"))}
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    record = Record.model_validate({"command": run.template, "machine": machine(), "versions": versions, **content})
    unused = {"report"} if run.evaluates else {"evaluation"}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record.model_dump(mode="json", exclude=unused), indent=1) + "\n")


def machine() -> str:
    """Return processor, cores and system in a line."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else []
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {platform.system()}"


def _relative(text: str, work: Path) -> str:
    return text.removeprefix(f"{work}/")
