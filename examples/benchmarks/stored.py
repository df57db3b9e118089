"""Benchmark results on disk, with the command and the machine they come from."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision

from guard_plugins._version import __version__


def store(
    path: Path, module: str, arguments: Sequence[str] | None, results: Mapping[str, Any], *, device: torch.device
) -> None:
    """Write results as JSON.

    Args:
        path: The file.
        module: The benchmark, as ``python -m`` takes it.
        arguments: What it was called with; None for the process's own arguments.
        results: The numbers.
        device: Where they were measured.
    """
    command = " ".join(["python", "-m", module, *(sys.argv[1:] if arguments is None else arguments)])
    document = {"command": command, **machine(device), "results": results}
    path.write_text(json.dumps(document, indent=1) + "\n")


def machine(device: torch.device) -> dict[str, Any]:
    """Return what the numbers depend on: processor, threads, versions."""
    return {
        "processor": _processor(),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "guard_plugins": __version__,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
