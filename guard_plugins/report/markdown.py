"""The report as Markdown, for ``report.md`` and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from guard_plugins.artifacts.evaluation import Evaluation
from guard_plugins.artifacts.formatting import counted, percent, radius, tested
from guard_plugins.artifacts.report import CurvatureReport, GateItem, ModelReport, Report
from guard_plugins.report.comparison import shown_kinds
from guard_plugins.report.gate import sentence, tally
from guard_plugins.report.tables import of_report

HARD = "Student, hard labels: trained on the stored PNGs with one class per image, without the teacher."
NOT_CHECKED = "The release gate, which checks whether attacks were strong enough, was not run."
KINDS = {"teacher": "teacher", "student": "student", "student_hard": "student, hard labels"}


def table(report: Report) -> str:
    """Return the accuracies of a run's models as a Markdown table, in percent."""
    found = [(label, getattr(report.models, kind)) for kind, label in KINDS.items() if kind in shown_kinds([report])]
    return model_table([(label, model) for label, model in found if model is not None], report.models.student)


def evaluation_table(found: Evaluation) -> str:
    """Return the accuracies ``guard-eval`` found as a Markdown table, in percent, and what to know of them."""
    label = found.kind if found.model.models == 1 else f"{found.model.models} {found.kind}s"
    return "\n\n".join([model_table([(label, found.model)], found.model), *found.notes])


def model_table(models: Sequence[tuple[str, ModelReport]], leading: ModelReport) -> str:
    """Return accuracies by model; there is a column for every attack and radius in ``leading``."""
    columns = list(dict.fromkeys((e.attack, e.norm, e.eps) for e in leading.robust if e.eps > 0))
    head = ["model", "clean", *(f"{attack} {norm} {radius(eps, norm)}" for attack, norm, eps in columns)]
    rows = [
        [label, percent(model.clean, model.sd), *(_cell(model, *column) for column in columns)]
        for label, model in models
    ]
    return grid(head, rows)


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def markdown(report: Report) -> str:
    """Return the whole report as Markdown."""
    parts = [
        f"# {report.method} on {report.dataset}, {counted(report.ipc, 'image')} per class, seed {report.seed}",
        f"{_guard(report)} Protocol `{report.protocol}`{_images(report)}; accuracies in percent. A radius of 8/255 "
        "lets an attack change every pixel by 8 of 255 steps.",
        table(report),
        "" if "student_hard" not in shown_kinds([report]) else HARD,
        *report.notes,
        f"The run {report.skipped.sentence()}." if report.skipped else "",
        _hook(report),
        _reported(report),
        _validation(report),
        _drops(report),
        *(
            _curvature(KINDS[kind], found, tested(report.dataset))
            for kind, found in report.curvature.items()
            if kind in shown_kinds([report])
        ),
        _gate(report),
        _seconds(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def gate_lines(label: str, items: Sequence[GateItem]) -> list[str]:
    """Return the release gate on a model as a list: the number of items by verdict, then those that did not pass."""
    if not items:
        return []
    unseen = "; ".join(item.name for item in items if item.verdict == "not run")  # last in the tally, so it follows
    loud = [item for item in items if item.verdict in ("failed", "warning")]
    return [
        f"* Release gate, {label}: {tally(items)}{f' ({unseen})' if unseen else ''}",
        *(f"  * **{item.verdict}** {item.title}: {item.figure}. {sentence(item.suggests)}" for item in loud),
    ]


def _gate(report: Report) -> str:
    if not any(report.gate.values()):
        return NOT_CHECKED
    return "\n".join(line for kind, items in report.gate.items() for line in gate_lines(KINDS[kind], items))


def _guard(report: Report) -> str:
    guard = report.guard
    if guard is None:
        rival = "" if report.training == "plain" else f" The teacher's objective is {report.training}."
        return f"No curvature hook.{rival}"
    length = f"h_rms = {guard['h_rms'] * 255:.3g}/255" if guard.get("h_rms") else f"h = {guard['h']}"
    steps = "every step" if guard["every"] == 1 else f"every {guard['every']} steps"
    return f"Curvature hook: {length}, weight {guard['weight']}, {guard['penalty']} penalty, {steps}."


def _images(report: Report) -> str:
    counts = sorted({entry.images for entry in report.models.student.robust})
    return f" on {' or '.join(map(str, counts))} {tested(report.dataset)}" if counts else ""


def _reported(report: Report) -> str:
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in report.reported.items())
    return f"The method reports: {numbers}." if numbers else ""


def _validation(report: Report) -> str:
    found = of_report(report)
    if found is None:
        return ""
    return f"{found.sentence}\n\n{grid(found.heads, found.rows)}"


def _curvature(label: str, found: CurvatureReport, images: str) -> str:
    return (
        f"Loss around {found.images} {images} ({label}), medians: gradient norm ‖∇ℓ‖ "
        f"{found.gradient_norm:.3g}, curvature κ along the gradient {found.along_gradient:.3g} (step h = "
        f"{found.h:.3g}), largest curvature in any direction |λ|max {found.eigenvalue:.3g}."
    )


def _seconds(report: Report) -> str:
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in report.seconds.items())
    return f"Seconds: {stages}{f'; {report.saves.sentence()}' if report.saves else ''}."


def _drops(report: Report) -> str:
    known = [drop for drop in report.metrics.drops if drop.value is not None] if report.metrics else []
    rates = [f"{percent(drop.value)} ({drop.attack}, {radius(drop.eps, drop.norm)})" for drop in known]
    hlr = "" if report.metrics is None or report.metrics.hlr is None else f" HLR {percent(report.metrics.hlr)}."
    said = "Drop rates of the student: the share of its clean accuracy that an attack takes, in percent"
    return f"{said}. {', '.join(rates)}.{hlr}" if rates else ""


def _cell(model: ModelReport, attack: str, norm: str, eps: float) -> str:
    for entry in model.robust:
        if (entry.attack, entry.norm, entry.eps) == (attack, norm, eps):
            return percent(entry.accuracy, entry.sd)
    return ""


def _hook(report: Report) -> str:
    hook = report.hook
    if hook is None:
        return ""
    whose = "the teacher's " if report.models.teacher is not None else ""  # else those of the method's own networks
    return (
        f"The hook regularised {hook.regularised_steps} of {whose}{hook.steps} steps. Means over them: loss "
        f"{hook.mean_loss:.4g}, the hook's term {hook.mean_term:.4g}, gradient norm {hook.mean_gradient_norm:.4g}, "
        f"curvature κ {hook.mean_curvature:.4g}."
    )
