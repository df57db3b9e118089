"""A finished run as its folder tells it; no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from guard_plugins.artifacts.figures import FIGURES, Figures, load_figures
from guard_plugins.artifacts.report import Report
from guard_plugins.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Run:
    """What a run left behind.

    Attributes:
        path: Its folder.
        report: Its results.
        config: Its configuration, as stored.
        manifest: Command, versions, machine; empty where the file is missing.
        figures: Numbers behind the pictures, or None where the file is missing.
        sheet: PNG of the distilled images, or None where the file is missing.
    """

    path: Path
    report: Report
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    figures: Figures | None
    sheet: bytes | None

    @property
    def attack_names(self) -> dict[str, str]:
        """How the run's attacks write their names, by name; empty where the manifest does not say it."""
        names = self.manifest.get("attacks")
        known = names.items() if isinstance(names, dict) else ()
        return {name: shown for name, shown in known if isinstance(shown, str) and shown.isprintable()}


def load_run(path: Path) -> Run:
    """Read a finished run.

    Raises:
        ConfigError: If the folder holds no finished run, or a file of it is damaged.
        ArtifactError: If the figures are damaged.
    """
    if not (path / "report.json").is_file():
        raise ConfigError(
            f"There is no finished run in {path}", seen=f"{path / 'report.json'} is missing",
            do=f"Give the folder of a finished run; guard-run --resume {path} goes on with a stopped one."
            if (path / "config.yaml").is_file() else "Give the folder of a run, such as runs/sre2l-digits-...",
        )  # fmt: skip
    try:
        report = Report.model_validate_json((path / "report.json").read_bytes())
        config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        manifest = path / "manifest.json"
        details = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    except (OSError, ValueError, ValidationError, yaml.YAMLError) as error:
        raise ConfigError(
            f"The run in {path} cannot be read", seen=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            do="Its report.json, config.yaml or manifest.json is missing or damaged: leave this run out.",
        ) from error  # fmt: skip
    sheet, figures = path / "distilled.png", path / FIGURES
    return Run(
        path, report, config if isinstance(config, dict) else {}, details if isinstance(details, dict) else {},
        load_figures(figures) if figures.is_file() else None, sheet.read_bytes() if sheet.is_file() else None,
    )  # fmt: skip
