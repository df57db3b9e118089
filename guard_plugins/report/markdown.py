"""The report as Markdown: the same table on the terminal and in ``report.md``."""

from __future__ import annotations

from guard_plugins.report.model import ModelReport, Report


def table(report: Report) -> str:
    """Return the accuracies as a Markdown table, in percent; the best-known attack first."""
    columns = _columns(report)
    head = ["model", "clean", *(f"{attack} {norm} {_radius(eps, norm)}" for attack, norm, eps in columns)]
    rows = [
        [label, _percent(model.clean, model.sd), *(_cell(model, *column) for column in columns)]
        for label, model in _models(report)
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown(report: Report) -> str:
    """Return the whole report as Markdown."""
    guard = report.guard
    if guard is None:
        rival = "" if report.training == "plain" else f" The teacher's objective is {report.training}."
        hook = f"No curvature hook.{rival}"
    else:
        length = f"h_rms = {guard['h_rms'] * 255:.3g}/255" if guard.get("h_rms") else f"h = {guard['h']}"
        hook = (
            f"Curvature hook: {length}, weight {guard['weight']}, {guard['penalty']} penalty, every {guard['every']}."
        )
    parts = [
        f"# {report.method} on {report.dataset}, {report.ipc} images per class, seed {report.seed}",
        f"{hook} Protocol `{report.protocol}`; accuracies in percent; L∞ radii ε in pixels of [0, 255].",
        table(report),
        _hook(report),
        "Seconds: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in report.seconds.items()) + ".",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _models(report: Report) -> list[tuple[str, ModelReport]]:
    named = [
        ("teacher", report.models.teacher),
        ("student", report.models.student),
        ("student, hard labels", report.models.student_hard),
    ]
    return [(label, model) for label, model in named if model is not None]


def _columns(report: Report) -> list[tuple[str, str, float]]:
    return list(dict.fromkeys((e.attack, e.norm, e.eps) for e in report.models.student.robust if e.eps > 0))


def _cell(model: ModelReport, attack: str, norm: str, eps: float) -> str:
    for entry in model.robust:
        if (entry.attack, entry.norm, entry.eps) == (attack, norm, eps):
            return _percent(entry.accuracy, entry.sd)
    return ""


def _percent(value: float, sd: float | None) -> str:
    return f"{100 * value:.1f}" + (f" ± {100 * sd:.1f}" if sd is not None else "")


def _radius(eps: float, norm: str) -> str:
    return f"{255 * eps:g}/255" if norm == "Linf" else f"{eps:g}"


def _hook(report: Report) -> str:
    hook = report.hook
    if hook is None:
        return ""
    return (
        f"The hook regularised {hook.regularised_steps} of {hook.steps} steps: mean loss {hook.mean_loss:.4g}, mean "
        f"term {hook.mean_term:.4g}, mean ‖g‖ {hook.mean_gradient_norm:.4g}, mean κ {hook.mean_curvature:.4g}."
    )
