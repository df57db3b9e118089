"""Finished runs read back from their folders, and which settings make each an experiment; no model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any, Final

import yaml
from pydantic import BaseModel

from guard_plugins.artifacts.figures import FIGURES, Figures, load_figures
from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.ledger import Ledger
from guard_plugins.artifacts.reading import read_json
from guard_plugins.artifacts.report import Report, read_report
from guard_plugins.config.schema import BEFORE, RIVAL_WEIGHTS, RunConfig, TeacherConfig
from guard_plugins.config.student import StudentConfig
from guard_plugins.config.yaml_file import read_yaml
from guard_plugins.errors import ConfigError
from guard_plugins.files import regular

# Settings that do not make a run another experiment.
_INCIDENTAL: Final = {"seed", "device", "data_root", "download", "preset", "teacher.path"}

_AS_BEFORE: Final = {f"{section}.{name}": value for (section, name), value in BEFORE.items()}
"""What runs had that are older than the option."""

_OF_TRAINING: Final = {
    f"teacher.{name}" for name in TeacherConfig.model_fields if name not in ("network", "activation")
}
"""Settings of a teacher's training, which do nothing where a teacher is given."""


@dataclass(frozen=True, eq=False)
class StoredRun:
    """The contents of a finished run's folder, as far as reports need them.

    Attributes:
        path: Its folder.
        report: Its results.
        config: Its configuration, as stored.
        manifest: Command, versions, machine; empty if the file is missing.
        figures: Data of the pictures, or None if the file is missing.
        sheet: PNG of the distilled images, or None if the file is missing.
    """

    path: Path
    report: Report
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    figures: Figures | None
    sheet: bytes | None

    @property
    def versions(self) -> str:
        """What made the run's numbers: the project, torch and plugins of every process; empty if nothing says it."""
        found = []
        for process in self.processes:
            known, plugins, used = (process.get(name) for name in ("versions", "plugins", "used"))
            known = known if isinstance(known, dict) else {}
            found += [f"{name} {known[name]}" for name in ("guard-plugins", "torch") if name in known]
            for plugin in plugins if isinstance(plugins, list) else ():
                if isinstance(plugin, dict) and plugin.get("name") == self.report.method:
                    found.append(f"{plugin.get('distribution')} {plugin.get('version')}")
            found += [str(part.get("origin")) for part in used or () if isinstance(part, dict)]
        return ", ".join(dict.fromkeys(found))

    @property
    def processes(self) -> list[Mapping[str, Any]]:
        """The first process of the run, and those that went on under other conditions, as the manifest has them."""
        later = self.manifest.get("resumed")
        return [self.manifest, *(one for one in (later if isinstance(later, list) else ()) if isinstance(one, dict))]

    @cached_property
    def teacher(self) -> str | None:
        """Hash of the teacher's file, by which runs that share a teacher are known; None if there is none."""
        return Ledger(self.path / "stages.json").hashes("teacher").get("teacher.safetensors")

    @property
    def attack_names(self) -> dict[str, str]:
        """How reports write the names of attacks, by name; empty if the manifest does not say it."""
        names = self.manifest.get("attacks")
        known = names.items() if isinstance(names, dict) else ()
        return {name: shown for name, shown in known if isinstance(shown, str) and shown.isprintable()}


def load_run(path: Path) -> StoredRun:
    """Read a finished run.

    Raises:
        ConfigError: If the folder holds no finished run, or its configuration is damaged.
        DamagedError: If another file of it is damaged.
    """
    RunFolder(path).require_finished()
    report = read_report(path / "report.json")
    try:
        config = read_yaml(path / "config.yaml")
        _require_sections(config)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"The run in {path} cannot be read", seen=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            do="Its config.yaml is missing or damaged: leave this run out.",
        ) from error  # fmt: skip
    manifest = path / "manifest.json"
    details = (
        read_json(manifest, do="Delete it: the report then leaves versions and command out.")
        if manifest.is_file()
        else {}
    )
    sheet, figures = path / "distilled.png", path / FIGURES
    return StoredRun(
        path, report, config, details if isinstance(details, dict) else {},
        load_figures(figures) if figures.is_file() else None, regular(sheet).read_bytes() if sheet.is_file() else None,
    )  # fmt: skip


def _require_sections(config: Any) -> None:
    """Check what a report reads of a configuration; other versions and plugins may have options of their own.

    Raises:
        ValueError: If it is no mapping, or a section is none, or the students' options are wrong.
    """
    if not isinstance(config, dict):
        raise ValueError("it is not a mapping of options to values")
    for name, field in RunConfig.model_fields.items():
        section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        if section and not isinstance(config.get(name), (dict, NoneType)):
            raise ValueError(f"{name} is not a mapping of options to values")
    StudentConfig.model_validate(config.get("student") or {})


def settings_of(run: StoredRun) -> dict[str, Any]:
    """Return those settings of a run, by dotted name, that make it another experiment."""
    whole = dict(_flat(run.config))
    found = {name: value for name, value in whole.items() if name not in _INCIDENTAL}
    found = {name: value for name, value in found.items() if name not in _AS_BEFORE or value != _AS_BEFORE[name]}
    if whole.get("teacher.path") is not None:  # how it was trained is said by its file and the results alone
        found = {name: value for name, value in found.items() if name not in _OF_TRAINING} | {"teacher": "given"}
    if found.get("teacher.training") not in RIVAL_WEIGHTS:
        found.pop("teacher.rival_weight", None)
    return found


def whole_settings_of(run: StoredRun) -> dict[str, Any]:
    """Return the settings of :func:`settings_of`, with those that older runs do not name."""
    return {**_AS_BEFORE, **settings_of(run)}


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
