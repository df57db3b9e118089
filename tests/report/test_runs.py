"""What a run leaves for its readers: the gate everywhere, the page, and figures of the right models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guard_plugins.artifacts.figures import load_figures
from guard_plugins.artifacts.parts import HookReport
from guard_plugins.artifacts.report import GateItem, Models, Report, read_report
from guard_plugins.evaluation import assess
from guard_plugins.evaluation.metrics import metrics_of
from guard_plugins.report.markdown import markdown
from tests.pipeline.conftest import do_tiny_run
from tests.report.folders import model, write_run


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    return do_tiny_run(tmp_path_factory.mktemp("report") / "run", "random")


def test_the_gate_is_in_every_form_of_the_report(done: tuple[Report, Path]) -> None:
    report, folder = done
    assert set(report.gate) == {"teacher", "student", "student_hard"}
    assert len(report.gate["student"]) >= 15
    assert len(report.gate["student_hard"]) == 5
    assert "* Release gate, student: " in (folder / "report.md").read_text()
    html = (folder / "report.html").read_text()
    assert all(item.name in html for item in report.gate["teacher"] if "‖" not in item.name)
    (matters,) = [item for item in report.gate["teacher"] if item.name == "h large enough to matter"]
    assert matters.verdict != "not run"


def test_figures_belong_to_the_report(done: tuple[Report, Path]) -> None:
    report, folder = done
    figures = load_figures(folder / "figures.safetensors")
    assert np.allclose(figures.about.radii, [eps / 255 for eps in (1, 2, 4, 8, 16, 32)])
    assert report.guard is not None
    assert figures.about.h == pytest.approx(report.guard["h_rms"] * 8)
    assert figures.arrays["clean"].shape == (6, 1, 8, 8)
    moved = figures.arrays["student/adversarial"].astype(np.float64) - figures.arrays["clean"]
    assert all(abs(moved[n]).max() <= eps * 1.001 + 1e-3 for n, eps in enumerate(figures.about.radii))
    for kind in ("teacher", "student"):
        median = report.curvature[kind].gradient_norm
        assert np.median(figures.arrays[f"{kind}/norm"]) == pytest.approx(median)  # as the page's histograms say it
    assert figures.of("student_hard", "slices") is None


def test_metrics_are_in_the_report(done: tuple[Report, Path]) -> None:
    report, folder = done
    student = report.models.student
    assert report.metrics is not None
    expected = [(student.clean - entry.accuracy) / student.clean for entry in student.robust if entry.eps]
    assert [drop.value for drop in report.metrics.drops] == pytest.approx(expected)
    assert (report.metrics.ratios, report.metrics.hlr) == ([], None)
    assert (
        f"an attack takes, in percent. {100 * expected[0]:.1f} (pgd-20x5, 1/255), "
        in (folder / "report.md").read_text()
    )


def test_hard_label_recovery_needs_a_plain_teacher() -> None:
    models = Models(teacher=model(0.95, 0, 0, 0), student=model(0.9, 0, 0, 0), student_hard=model(0.7, 0, 0, 0))
    assert metrics_of(models, plain=True).hlr == pytest.approx(0.25)
    assert metrics_of(models, plain=False).hlr is None


@pytest.mark.slow
def test_a_failed_item_is_loud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = assess.review

    def failing(**known: Any) -> list[GateItem]:
        first, *rest = original(**known)
        return [first.model_copy(update={"verdict": "failed", "suggests": "look again"}), *rest]

    monkeypatch.setattr(assess, "review", failing)
    _, folder = do_tiny_run(tmp_path / "run", "noise")
    said = capsys.readouterr().err
    assert "Do not quote the numbers of the student, hard labels yet. Accuracy under attack never" in said
    assert f"guard-run --config {folder}/config.yaml --teacher {folder} --evaluation.protocol standard" in said
    assert "Release gate failed" in (folder / "report.html").read_text()
    assert "**failed** accuracy under attack never above clean" in (folder / "report.md").read_text()
    assert "Do not quote" in (folder / "events.jsonl").read_text()


@pytest.mark.slow
def test_without_the_gate_nothing_is_checked_and_the_run_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, folder = do_tiny_run(tmp_path / "run", "noise", evaluation={"gate": "off", "images": 20})
    assert {len(items) for items in report.gate.values()} == {0}
    assert report.models.student.robust
    said = capsys.readouterr().err
    assert "not run (--evaluation.gate off), so the numbers are not checked" in said
    assert said.count("release gate") == 1
    text = (folder / "report.md").read_text()
    assert "The release gate, which checks whether attacks were strong enough, was not run." in text
    assert "failed" not in text
    assert "Release gate, " not in text


def test_a_method_without_a_teacher_reports_no_steps_of_one(tmp_path: Path) -> None:
    means = {"mean_loss": 2.0, "mean_term": 0.5, "mean_gradient_norm": 1.0, "mean_curvature": 3.0}
    hook = HookReport(regularised_steps=2, steps=4, **means)
    report = read_report(write_run(tmp_path / "run") / "report.json").model_copy(update={"hook": hook})
    assert "regularised 2 of the teacher's 4 steps" in markdown(report)
    own = report.model_copy(update={"models": report.models.model_copy(update={"teacher": None})})
    assert "regularised 2 of 4 steps" in markdown(own)


def test_the_page_has_curvature_of_the_models_that_it_shows(tmp_path: Path) -> None:
    report = read_report(write_run(tmp_path / "run", learned_from="hard") / "report.json")
    (measured,) = report.curvature.values()
    both = report.model_copy(update={"curvature": {"student": measured, "student_hard": measured}})
    assert "(student), medians" in markdown(both)
    assert "(student, hard labels), medians" not in markdown(both)
    soft = both.model_copy(update={"learned_from": "soft"})
    assert "(student, hard labels), medians" in markdown(soft)
