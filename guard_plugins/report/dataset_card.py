"""The card that goes along with an exported distilled set: what it is, how it was made, what it was measured to be."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from guard_plugins._version import __version__
from guard_plugins.artifacts.formatting import percent, radius
from guard_plugins.artifacts.report import ModelReport, Report
from guard_plugins.artifacts.teacher import TeacherCard
from guard_plugins.config.schema import RunConfig
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.report.comparison import shown_kinds
from guard_plugins.report.gate import failures, tally

_FRONT: Final = {"task_categories": ["image-classification"], "tags": ["dataset-distillation", "guard-plugins"]}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What a card is written about.

    Attributes:
        distilled: The set.
        classes: Names of the classes.
        config: The run's configuration as stored.
        report: Its results, or None where it is not finished.
        teacher: What the teacher's file says of itself, or None where the method uses none.
        format: Name of the format.
        precision: A sentence on what the format rounds or leaves out.
        soft: Whether the format keeps soft labels.
    """

    distilled: DistilledSet
    classes: Sequence[str]
    config: Mapping[str, Any]
    report: Report | None
    teacher: TeacherCard | None
    format: str
    precision: str
    soft: bool


def dataset_card(exported: Exported) -> str:
    """Return the card as Markdown, with the header that the Hugging Face hub reads."""
    config = exported.config
    title = f"{config.get('dataset')} distilled with {config.get('method')}"
    front = yaml.safe_dump({"pretty_name": title, **_FRONT}, sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{front}---", f"# {title}",
        f"Made by guard-plugins {__version__} and exported as `{exported.format}`. {exported.precision}",
        _budget(exported), _recipe(config), _teacher(exported), _results(exported.report),
        "## Licence\n\nThe images derive from the data set named above; its terms apply to them.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _budget(exported: Exported) -> str:
    images, soft = exported.distilled.images, exported.distilled.soft_labels
    count, *shape = images.shape
    size = " x ".join(map(str, shape))
    lines = [
        f"- {count} images of {size}: {images.numel():,} stored pixels (channels counted)",
        f"- {exported.config.get('ipc')} images per class, {len(exported.classes)} classes: "
        f"{', '.join(map(_plain, exported.classes[:10]))}{', ...' if len(exported.classes) > 10 else ''}",
    ]
    if exported.distilled.views is not None:
        lines.append(f"- exported as the {len(exported.distilled)} training images that are read from them")
    if soft is not None and exported.soft:
        lines.append(
            f"- soft labels: {soft.numel():,} further numbers, one row per {'image' if soft.dim() == 2 else 'view'}"
        )
    if exported.distilled.student_lr is not None:
        lines.append(f"- learned rate of the students: {exported.distilled.student_lr:g}")
    if exported.distilled.student_steps is not None:
        lines.append(f"- steps of the students: {exported.distilled.student_steps}")
    return "## Budget\n\n" + "\n".join(lines)


def _plain(name: str) -> str:
    """Return the name of a class, which is that of anybody's folder, as text on one line of Markdown."""
    return html.escape("".join(letter if letter.isprintable() else " " for letter in name), quote=False)


def _recipe(config: Mapping[str, Any]) -> str:
    """Return the settings that made the images: the method's own, and those of hook, data and students."""
    own = {name: value for name, value in config.items() if name not in RunConfig.model_fields}
    shared = {name: config.get(name) for name in ("method", "dataset", "ipc", "seed", "no_guard", "guard", "data")}
    students = {"student": config.get("student")}
    text = yaml.safe_dump({**shared, **own, **students}, sort_keys=False, allow_unicode=True)
    return f"## Recipe\n\n```yaml\n{text}```"


def _teacher(exported: Exported) -> str:
    card, config = exported.teacher, exported.config
    own = exported.report is not None and exported.report.learned_from == "own"
    if card is None:
        labels = "the soft labels that the method returned with the images" if own else "hard labels"
        return f"## Teacher\n\nNone: the method uses no teacher, and students learn from {labels}."
    hook = "without the curvature hook"
    if card.guard is not None:
        hook = "under the curvature hook, " + ", ".join(f"{k} {v}" for k, v in card.guard.items() if v is not None)
    settings = config.get("teacher")
    path = settings.get("path") if isinstance(settings, Mapping) else None
    origin = f"; taken from `{path}`" if path else ""
    kept = "labels" if exported.soft else "classes"
    asked = (
        "Students of methods with soft labels ask it for labels on augmented views; without it they learn from the "
        f"{kept} in this export."
    )
    if own:
        asked = "Students do not ask it: they learn from the soft labels that the method returned with the images."
    return (
        f"## Teacher\n\n{card.network} with {card.activation}, objective `{card.training}`, {hook}{origin}. "
        f"Its weights are not in this export. {asked}"
    )


def _results(report: Report | None) -> str:
    if report is None:
        return "## Results\n\nThe run is not finished: nothing was measured yet."
    kinds = {
        "student": "student, the method's labels", "student_hard": "student, hard labels", "teacher": "teacher",
    }  # fmt: skip
    shown = shown_kinds([report])
    rows = [_row(heading, getattr(report.models, kind)) for kind, heading in kinds.items() if kind in shown]
    gate = [f"- {kinds.get(kind, kind)}: {tally(items)}" for kind, items in report.gate.items()]
    failed = [f"- {line}" for line in failures(report)]
    table = ["| model | clean | under attack |", "| --- | --- | --- |", *filter(None, rows)]
    return "\n".join(
        [f"## Results\n\nProtocol `{report.protocol}`; accuracies in percent.\n", *table,
         "\n## Release gate\n", *(gate or ["- not examined"]), *failed]
    )  # fmt: skip


def _row(heading: str, model: ModelReport | None) -> str:
    if model is None:
        return ""
    attacks = ", ".join(
        f"{percent(entry.accuracy, entry.sd)} ({entry.attack}, {radius(entry.eps, entry.norm)})"
        for entry in model.robust
        if entry.eps
    )
    return f"| {heading} | {percent(model.clean, model.sd)} | {attacks or '–'} |"
