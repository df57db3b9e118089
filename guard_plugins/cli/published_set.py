"""``guard-eval --set DIR``: trains students of a published set by its own card, and compares them with what it says."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.cli.eval_arguments import current_spelling
from guard_plugins.cli.paths import path_argument
from guard_plugins.config.explain import flag
from guard_plugins.config.yaml_file import read_yaml
from guard_plugins.errors import ConfigError, GuardError
from guard_plugins.files import regular

if TYPE_CHECKING:
    from guard_plugins.artifacts.report import ModelReport
    from guard_plugins.method import Method

FLAG = "--set"
_STUDENT = (
    "network", "activation", "protocol", "epochs", "batch_size", "lr", "weight_decay", "temperature", "mixup", "cutmix",
    "augment", "count",
)  # fmt: skip
_DATA = (
    "image_size", "train_per_class", "test_per_class", "skip_corrupt", "split", "range", "reduced_decode",
    "validation_per_class",
)  # fmt: skip
_LISTS = (("data", "range"), ("evaluation", "eps"))


def taken(argv: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the set that ``--set`` names, or None, and the arguments with what its card says in its place.

    What is given beside it has precedence, such as ``--data-root`` on another machine.

    Raises:
        ConfigError: If the set has no card, or the card names code.
    """
    words = list(argv)
    for n, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name != FLAG:
            continue
        if not equals and n + 1 == len(words):
            raise ConfigError("--set needs the folder of a run, or a copy of it", do="guard-eval --set runs/mine")
        path = path_argument(value if equals else words[n + 1])
        rest = words[:n] + words[n + (1 if equals else 2) :]
        given = {other.partition("=")[0] for other in current_spelling(rest)[0]}
        if FLAG in {other.partition("=")[0] for other in rest}:
            raise ConfigError(f"{FLAG} is given twice", do="Validate one set at a time.")
        config = _card(path)
        _refuse_code(path, config, given)
        _require_teacher(path, given)
        if flag(("evaluation", "protocol")) in given:
            given.add(flag(("evaluation", "eps")))  # the card's radii are for its own protocol
        said = {key: value for key, value in _said(path, config).items() if flag(key) not in given}
        return path, [*(flag(key) + _written(key, value) for key, value in said.items()), *rest]
    return None, words


def _card(path: Path) -> Mapping[str, Any]:
    """Return the configuration of a whole set."""
    folder = RunFolder(path)
    missing = [file.name for file in (folder.config, folder.report, folder.distilled) if not file.exists()]
    if missing:
        raise ConfigError(
            f"{path} is not a whole published set (--set)", seen=f"missing: {', '.join(missing)}",
            do="Give a finished run, or a copy with config.yaml, report.json, distilled/ and, for soft labels, "
            "teacher.safetensors. guard-eval --distilled takes images alone.",
        )  # fmt: skip
    return _config(folder)


def _require_teacher(path: Path, given: Collection[str]) -> None:
    """Refuse a set whose students learned from a teacher that did not come along: others would be compared with them.

    The report is read here, so that a damaged one is said before the students are trained.
    """
    from guard_plugins.artifacts.report import read_report

    folder = RunFolder(path)
    soft = read_report(folder.report).learned_from == "soft" and "soft_labels" not in _brought(folder)
    if soft and not folder.teacher.exists() and not {"--teacher.path", "--student.labels"}.intersection(given):
        raise ConfigError(
            f"The students of {path} learned from a teacher that is not there (--set)",
            seen=f"missing: {folder.teacher.name}",
            do="Put it back, or say where it is: --teacher.path FILE. --student.labels stored takes labels of the set.",
        )


def _said(path: Path, config: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return the settings that a run's files amount to."""
    folder = RunFolder(path)
    student, teacher, data = (_section(config, name) for name in ("student", "teacher", "data"))
    found: dict[tuple[str, ...], Any] = {
        ("distilled",): path, ("dataset",): config.get("dataset"), ("data_root",): config.get("data_root"),
        ("seed",): config.get("seed"), ("preset",): _known_preset(config.get("preset")),
    }  # fmt: skip
    found |= {("data", name): data.get(name) for name in _DATA}
    if data.get("validation_per_class") is None:
        found.pop(("data", "train_per_class"))  # which images are held out depends on it, and nothing else here
    method, brings = _method(config.get("method")), _brought(folder)
    found |= {("student", name): student.get(name) for name in _STUDENT}
    found |= {("student", name): None for name in _replaced(config, student, method) if f"student_{name}" in brings}
    found["student", "network"] = student.get("network") or teacher.get("network")
    returned = method.labels == "own" if method else "soft_labels" in brings and not folder.teacher.is_file()
    if returned or student.get("labels") == "own":
        found["student", "labels"] = "own"
    elif folder.teacher.is_file():
        found["teacher", "path"] = folder.teacher
    else:
        found.pop(("student", "temperature"))
    if student.get("guard_weight"):
        length = student.get("guard_h_rms") or _section(config, "guard").get("h_rms")
        found |= {("student", "guard_weight"): student["guard_weight"], ("student", "guard_h_rms"): length}
    if student.get("feature_weight") and ("teacher", "path") in found:
        found["student", "feature_weight"] = student["feature_weight"]
    evaluation = _section(config, "evaluation")
    found |= {("evaluation", name): evaluation.get(name) for name in ("protocol", "images", "eps")}
    return {key: value for key, value in found.items() if value is not None and value is not False}


def _config(folder: RunFolder) -> Mapping[str, Any]:
    try:
        config: Any = read_yaml(folder.config)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{folder.config} cannot be read (--set)", seen=str(error)) from None
    if not isinstance(config, Mapping):
        raise ConfigError(f"{folder.config} is not a configuration (--set)", seen=type(config).__name__)
    return config


def _refuse_code(path: Path, config: Mapping[str, Any], given: Collection[str]) -> None:
    """Refuse code for the students that only the file of the set names: sets come from anywhere."""
    from guard_plugins.host.own_network import is_own_network

    folder, option = RunFolder(path), flag(("student", "network"))
    if option in given:
        return
    network = _section(config, "student").get("network") or _section(config, "teacher").get("network")
    if network is not None and (not isinstance(network, str) or is_own_network(network)):
        raise ConfigError(
            f"The students of {path} need code that their set names, and it is not run unasked (--set)",
            seen=f"network {network} in {folder.config.name}",
            do=f"Read that code. If you trust it: {option} {network}",
        )


def _written(key: tuple[str, ...], value: Any) -> str:
    """Return what follows an option on the command line.

    Raises:
        ConfigError: If it is none of the things that the option may have.
    """
    if value is True:
        return ""
    if key in _LISTS and isinstance(value, list | tuple):
        return "=" + ",".join(map(str, value))
    if not isinstance(value, str | int | float | Path):
        raise ConfigError(
            f"A setting of the set cannot be used (--set): {'.'.join(key)} in its config.yaml", seen=repr(value)[:80]
        )
    return f"={value}"


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _method(name: Any) -> type[Method] | None:
    """Return the run's method where it is installed; its own defaults and labels are in no file."""
    from guard_plugins.host import PluginHost

    try:
        return PluginHost(only=[name]).method(name) if isinstance(name, str) else None
    except GuardError:
        return None


def _brought(folder: RunFolder) -> set[str]:
    """Return what the set brings, by the names of its tensors and of the settings of students that it replaces."""
    from safetensors import SafetensorError, safe_open

    path = folder.distilled / "distilled.safetensors"
    if not path.is_file():
        return set()
    try:
        with safe_open(regular(path), framework="pt") as file:
            names = set(file.keys())
    except (OSError, SafetensorError):
        return set()  # said when the images are read
    return names | ({"student_epochs"} if "student_steps" in names else set())


def _replaced(config: Mapping[str, Any], student: Mapping[str, Any], method: type[Method] | None) -> list[str]:
    """Return the settings of students that are the preset's, before which those learned with a set go."""
    from guard_plugins.config.compose import preset_layer
    from guard_plugins.config.presets import PRESETS

    name = config.get("preset") or config.get("dataset")
    preset = preset_layer(method, config).values if method else PRESETS.get(str(name), {})
    settled = student.get("labels") == "stored"  # the passes were settled before the set was there
    names = ("lr",) if settled else ("lr", "epochs")
    return [name for name in names if student.get(name) == _section(preset, "student").get(name)]


def _known_preset(name: Any) -> str | None:
    from guard_plugins.config.presets import PRESETS

    return name if isinstance(name, str) and name in PRESETS else None


def verdict(path: Path, found: ModelReport) -> tuple[bool, list[str]]:
    """Return whether students are as accurate as the card says, and a line for every number.

    A number agrees if chance explains the difference with 99 % confidence: the draw of the test images, twice since two
    trainings differ as well, or two and a half times the sd over students, whichever is larger.

    Args:
        path: The set.
        found: What its students were measured to be.
    """
    from guard_plugins.artifacts.formatting import attack_name, percent, radius
    from guard_plugins.artifacts.report import read_report

    said = read_report(RunFolder(path).report).models.student
    images = found.robust[0].images if found.robust else 1
    pairs = [("clean", said.clean, found.clean, found.sd or said.sd or 0.0)]
    known = {(entry.attack, entry.norm, entry.eps): entry for entry in found.robust if entry.eps}
    left = []
    for entry in filter(lambda entry: entry.eps, said.robust):
        name = f"{attack_name(entry.attack, {})} at {radius(entry.eps, entry.norm)}"
        now = known.get((entry.attack, entry.norm, entry.eps))
        if now is None:
            left.append(f"not measured {name}: report {percent(entry.accuracy)}")
        else:
            pairs.append((name, entry.accuracy, now.accuracy, now.sd or entry.sd or 0.0))
    lines, good = [], True
    for name, before, after, sd in pairs:
        noise = max(2 * 2.58 * math.sqrt(max(before * (1 - before), 0.01) / images), 2.5 * sd)
        agrees = abs(after - before) <= noise
        good &= agrees
        lines.append(f"{'agrees ' if agrees else 'DIFFERS'} {name}: report {percent(before)}, now {percent(after)}")
    return good, lines + left
