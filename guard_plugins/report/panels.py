"""The pictures of a report, drawn from the data that the runs stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from guard_plugins.artifacts.contact_sheet import ROWS
from guard_plugins.artifacts.figures import Array, Figures
from guard_plugins.artifacts.formatting import attack_name, radius
from guard_plugins.artifacts.report import ModelReport
from guard_plugins.report import plots
from guard_plugins.report.comparison import KINDS, Comparison, Experiment
from guard_plugins.report.images import difference_uri, image_uri, sheet_uri, strip_uris
from guard_plugins.report.tables import Labelled, curve_attack

Picture = tuple[str, str]
"""Heading and data URI."""
_SHARED = ", and "


@dataclass(frozen=True)
class Thumbnail:
    """One small picture and the class the model predicted; ``mark`` is the style class of its colour."""

    uri: str
    alt: str
    name: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Strip:
    """The images of one class in a row: picture, class and number of images."""

    uri: str
    name: str
    count: int


@dataclass(frozen=True)
class Sheet:
    """The distilled images of an experiment: strips by class, or the whole contact sheet."""

    label: str
    strips: Sequence[Strip]
    whole: str | None


@dataclass(frozen=True)
class Group:
    """Rows of thumbnails under a heading."""

    heading: str
    rows: Sequence[Sequence[Thumbnail]]


@dataclass(frozen=True)
class Examples:
    """Clean images, then the adversarial images of every experiment."""

    caption: str
    groups: Sequence[Group]


def curves(experiments: Labelled, kinds: Mapping[str, str]) -> list[Picture]:
    """Return accuracy over ε for every kind of model, if an attack was run at several radii.

    Args:
        experiments: Labels and accuracies.
        kinds: The kinds of models with their headings.
    """
    pictures = []
    for kind, heading in kinds.items():
        known = [(number, models[kind]) for number, (_, models) in enumerate(experiments) if kind in models]
        lines = [line for number, model in known for line in _lines(model, number)]
        if lines:
            dashed = "; dashed: AutoAttack" if any(line.dashed for line in lines) else ""
            pictures.append((heading + dashed, plots.curves(lines)))
    return pictures


def sheets(comparison: Comparison) -> list[Sheet]:
    """Return the contact sheets: a strip of images per class with its name, or whole where the names are unknown."""
    found = []
    for entry in comparison.entries:
        png, figures = entry.first.sheet, entry.first.figures
        names = figures.about.classes[:ROWS] if figures is not None else ()
        strips = strip_uris(png, len(names)) if png else []
        whole = sheet_uri(png) if png and not strips else None
        named = [Strip(uri, name, count) for name, (uri, count) in zip(names, strips, strict=True)] if strips else []
        if named or whole:
            found.append(Sheet(entry.label, named, whole))
    return found


def examples(comparison: Comparison) -> Examples | None:
    """Return adversarial examples of the students, all at one radius, or None if none were stored."""
    known = [(entry, entry.first.figures) for entry in comparison.entries]
    shown = [(entry, found) for entry, found in known if found and found.of("student", "adversarial") is not None]
    if not shown:
        return None
    first = shown[0][1]
    shown = [(entry, found) for entry, found in shown if np.array_equal(found.arrays["clean"], first.arrays["clean"])]
    eps = _common_radius(shown)
    if eps is None:
        return None
    names = first.about.classes
    clean = [
        Thumbnail(image_uri(image), f"test image of class {names[label]}", names[label])
        for image, label in zip(first.arrays["clean"], first.arrays["labels"], strict=True)
    ]
    attack = attack_name(first.about.attack, comparison.attack_names)
    coloured = first.arrays["clean"].shape[1] == 3
    caption = (
        f"The students attacked by {attack} at ε = {radius(eps)}. The upper row of a student has the attacked images, "
        "each with the class the model gives: ✓ where this is right with and without attack. The lower row shows what "
        f"the attack changed: grey is nothing, black −ε, white +ε{', in each colour' if coloured else ''}."
    )
    groups = [_attacked(entry.label, found, eps) for entry, found in shown]
    return Examples(caption, [Group("Test images", [clean]), *groups])


def slices(comparison: Comparison) -> list[Picture]:
    """Return slices through the loss for teachers and students, in one picture if there is one experiment."""
    if len(comparison.entries) == 1:
        found = comparison.entries[0].first.figures
        both = [(KINDS[kind], found.of(kind, "slices")) for kind in ("student", "teacher")] if found else []
        rows = [(label, losses) for label, losses in both if losses is not None and np.isfinite(losses).all()]
        return [("Slices through the loss", _slices(rows))] if rows else []
    pictures = []
    for kind in ("student", "teacher"):
        known = [(label, found.of(kind, "slices")) for label, found in _distinct(comparison, kind, "slices")]
        rows = [(label, losses) for label, losses in known if losses is not None and np.isfinite(losses).all()]
        if rows:
            pictures.append((f"{KINDS[kind]}: slices through the loss", _slices(rows)))
    return pictures


def histograms(comparison: Comparison) -> list[Picture]:
    """Return histograms of gradient norm and curvature for teachers and students."""
    pictures = []
    for kind in ("teacher", "student"):
        for name, label, signed in (
            ("norm", "length of the gradient ‖∇ℓ‖", False),
            ("curvature", "curvature κ along the gradient", True),
        ):
            rows = []
            for heading, found in _distinct(comparison, kind, name):
                values = found.of(kind, name)
                if values is not None and np.isfinite(values).any():
                    rows.append((heading, values[np.isfinite(values)], _number(comparison, heading)))
            if rows:
                pictures.append((f"{KINDS[kind]}: {label}", plots.histograms(rows, label=label, signed=signed)))
    return pictures


def caption(comparison: Comparison) -> str:
    """Return how slices and curvatures were measured."""
    found = next((entry.first.figures for entry in comparison.entries if entry.first.figures), None)
    if found is None:
        return ""
    return (
        f"How the loss ℓ behaves near {_measured_on(found)}test images x. The length of the gradient ‖∇ℓ‖ says how "
        "steep it is at the image, where a confident model is flat. The curvature κ says how much steeper it gets on a "
        f"step z of length h = {found.about.h:.3g} (L2, pixels from 0 to 1) along the gradient: "
        "κ = 2 (ℓ(x + z) − ℓ(x) − h‖∇ℓ‖) / h². In the slices, the cross is a test image; right is along the gradient, "
        "up is a random direction, each from −2h to 2h. Brighter is a higher loss; each image has a scale of its own."
    )


def _measured_on(found: Figures) -> str:
    counts = sorted({len(array) for name, array in found.arrays.items() if name.endswith("/curvature")})
    return f"{' or '.join(map(str, counts))} " if counts else ""


def _lines(model: ModelReport, number: int) -> Iterator[plots.Line]:
    """Yield the curve of the attack with the most radii, and that of AutoAttack if it ran at several."""
    for attack in dict.fromkeys([curve_attack(model.robust), "autoattack"]):
        under = {e.eps: e.accuracy for e in model.robust if e.attack == attack and e.norm == "Linf" and e.eps}
        if len(under) > 1:
            points = sorted({0.0: model.clean, **under}.items())
            radii, accuracies = [255 * eps for eps, _ in points], [100 * accuracy for _, accuracy in points]
            yield plots.Line(radii, accuracies, number, dashed=attack == "autoattack" != curve_attack(model.robust))


def _slices(rows: Sequence[tuple[str, Array]]) -> str:
    return plots.slices(rows, reach="−2h to 2h")


def _attacked(label: str, found: Figures, eps: float) -> Group:
    number = _index(found, eps)
    clean, labels, names = found.arrays["clean"], found.arrays["labels"], found.about.classes
    adversarial, after = found.arrays["student/adversarial"][number], found.arrays["student/after"][number]
    before = found.arrays["student/before"]
    predicted, changed = [], []
    for image, moved, truth, was, now in zip(clean, adversarial, labels, before, after, strict=True):
        kept = was == truth and now == truth
        mark = ("✓ " if kept else "✗ ") + names[now]
        predicted.append(Thumbnail(image_uri(moved), f"adversarial image, predicted {names[now]}", mark, _mark(kept)))
        changed.append(Thumbnail(difference_uri(image, moved, scale=eps), "difference"))
    return Group(label, [predicted, changed])


def _mark(kept: bool) -> str:
    return "passed" if kept else "failed"


def _common_radius(shown: Sequence[tuple[Experiment, Figures]]) -> float | None:
    """Return the radius stored by all runs at which students are nearest to half of their clean accuracy."""
    common = [eps for eps in shown[0][1].about.radii if all(_index(found, eps) is not None for _, found in shown)]

    def distance(eps: float) -> float:
        gaps = []
        for entry, _ in shown:
            student = entry.models["student"]
            known = [e.accuracy for e in student.robust if e.norm == "Linf" and abs(e.eps - eps) < 1e-9]
            gaps.append((known[0] if known else 0.0) - student.clean / 2)
        return abs(float(np.mean(gaps)))

    return min(common, key=distance, default=None)


def _index(found: Figures, eps: float) -> int | None:
    return next((n for n, known in enumerate(found.about.radii) if abs(known - eps) < 1e-9), None)


def _distinct(comparison: Comparison, kind: str, name: str) -> list[tuple[str, Figures]]:
    """Return labels and figures; experiments with the same model, such as a reused teacher, have one label together."""
    found: dict[bytes, tuple[list[str], Figures]] = {}
    for entry in comparison.entries:
        figures = entry.first.figures
        values = figures.of(kind, name) if figures else None
        if figures is not None and values is not None:
            found.setdefault(values.tobytes(), ([], figures))[0].append(entry.label)
    return [(_shared(labels), figures) for labels, figures in found.values()]


def _number(comparison: Comparison, label: str) -> int:
    """Return the number of the experiment a (joint) label begins with, for its colour."""
    first = label.split(_SHARED)[0]
    return next((n for n, entry in enumerate(comparison.entries) if entry.label == first), 0)


def _shared(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{labels[0]}{_SHARED}{len(labels) - 1} more with this model"
