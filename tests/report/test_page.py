"""The page: self-contained, safe, complete, the same every time."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guard_plugins.artifacts.report import read_report
from guard_plugins.evaluation.gate.ordering import ABOVE_CHANCE
from guard_plugins.report.comparison import compare
from guard_plugins.report.gate import learned_nothing
from guard_plugins.report.markdown import table
from guard_plugins.report.page import page
from guard_plugins.report.runs import load_run
from tests.report.folders import GUARD, item, model, write_run


def html_of(*folders: Path) -> str:
    return page(compare([load_run(folder) for folder in folders]))


def test_the_page_fetches_nothing_and_runs_nothing(tmp_path: Path) -> None:
    html = html_of(write_run(tmp_path / "a", guard=GUARD), write_run(tmp_path / "b", offset=0.5))
    assert "<script" not in html
    assert not re.search(r"\son\w+=", html)
    assert not re.search(r"@import|url\(", html)
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert "http" not in re.sub(r'http-equiv|data:image/[^"]*', "", html)


def test_the_content_policy_admits_the_page_s_own_style_and_nothing_else(tmp_path: Path) -> None:
    html = html_of(write_run(tmp_path / "a"))
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.S)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ")[:3] == ["default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'"]
    assert " style=" not in html


def test_hostile_names_are_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>$x$"
    folder = write_run(tmp_path / "a", method=evil, dataset=evil, classes=(evil, "\"'>"), gate=[item("failed", evil)])
    html = html_of(folder)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_failed_items_come_first_and_loud(tmp_path: Path) -> None:
    html = html_of(write_run(tmp_path / "a", gate=[item("failed", "the check"), item("warning", "another")]))
    assert html.index("Release gate failed") < html.index('id="accuracy"')
    assert "Do not quote these numbers" in html
    quiet = html_of(write_run(tmp_path / "b", gate=[item("passed", "the check"), item("warning", "another")]))
    assert "Release gate failed" not in quiet
    assert "! passed with warnings" in quiet


def test_models_that_learned_nothing_are_named_first(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", gate=[item("warning", ABOVE_CHANCE)])
    html = html_of(folder)
    sentence = "No better than chance: student. Such numbers mean nothing."
    assert html.index(sentence) < html.index('id="accuracy"')
    assert sentence not in html_of(write_run(tmp_path / "b", gate=[item("passed", ABOVE_CHANCE), item("warning")]))
    both = html_of(folder, write_run(tmp_path / "c", guard=GUARD, gate=[item("passed", ABOVE_CHANCE)]))
    whose = "No better than chance: sre2l, no hook (student). Such numbers mean nothing."
    assert whose in both
    assert whose in html_of(folder, write_run(tmp_path / "d", guard=GUARD))  # of which nothing was checked
    report = read_report(folder / "report.json")
    assert learned_nothing(report)[0] == (
        "warning: student: no better than chance, so its numbers mean nothing (a figure)"
    )
    of_both = report.model_copy(update={"gate": {"teacher": report.gate["student"], **report.gate}})
    assert len(learned_nothing(of_both)) == 3
    assert "--teacher.epochs" in learned_nothing(of_both)[2]


def test_every_accuracy_of_every_model_is_on_the_page(tmp_path: Path) -> None:
    student = model(0.911, 0.822, 0.633, 0.344)
    html = html_of(write_run(tmp_path / "a", student=student))
    for number in ("91.1", "82.2", "63.3", "34.4", "95.0", "70.0"):
        assert f">{number}<" in html


def test_commands_versions_and_configuration_are_there(tmp_path: Path) -> None:
    html = html_of(write_run(tmp_path / "a"))
    assert "guard-run --method sre2l &#39;a b&#39;" in html
    assert "torch 2.6" in html
    assert "network: small-resnet" in html


def test_the_same_folders_give_the_same_bytes(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "a", guard=GUARD), write_run(tmp_path / "b")]
    assert html_of(*folders) == html_of(*folders)


def test_missing_extras_leave_their_section_empty(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    for name in ("figures.safetensors", "distilled.png", "manifest.json"):
        (folder / name).unlink()
    html = html_of(folder)
    for text in ("No pictures were stored", "No examples were stored", "No slices or curvatures", "not recorded"):
        assert text in html


def test_models_that_several_runs_share_are_drawn_once(tmp_path: Path) -> None:
    shared = [write_run(tmp_path / "a", guard=GUARD), write_run(tmp_path / "b", method="noise", guard=GUARD)]
    svgs = [
        base64.b64decode(found).decode()
        for found in re.findall(r"data:image/svg\+xml;base64,([^\"]*)", html_of(*shared))
    ]
    assert any("sre2l, hook, and 1 more with this model: median" in svg for svg in svgs)


def test_a_single_run_begins_with_what_came_out(tmp_path: Path) -> None:
    html = html_of(write_run(tmp_path / "a", gate=[item("failed", "the check")]))
    assert (
        "Trained on 10 distilled images per class, students are right on 90.0 % of 100 test images, and on 60.0 % when "
        "attacked by PGD-20 at ε = 4/255. The release gate failed on 1 of 1 model, so do not quote them yet." in html
    )
    assert "strong enough, was not run." in html_of(write_run(tmp_path / "b"))
    assert "1 distilled image per class" in html_of(write_run(tmp_path / "c", ipc=1))


def test_several_runs_begin_with_whose_students_are_best_and_whether_that_is_noise(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", guard=GUARD, student=model(0.9, 0.8, 0.6, 0.3)),
        write_run(tmp_path / "b", student=model(0.9, 0.7, 0.1, 0.0)),
    ]
    best = "students of &#39;sre2l, hook&#39; are right most often, on 60.0 % of 100 test images; "
    assert f"{best}other test images keep this lead, other seeds may not." in html_of(*runs)
    near = write_run(tmp_path / "c", method="dc", student=model(0.9, 0.8, 0.58, 0.3))
    assert f"{best}this lead over 1 of 2 others may be noise." in html_of(*runs, near)
    assert f"{best}this lead over every other may be noise." in html_of(runs[0], near)


def test_a_lead_over_several_seeds_is_judged_by_their_spread(tmp_path: Path) -> None:
    def runs(*accuracies: float, guard: Mapping[str, Any] | None = None) -> list[Path]:
        return [
            write_run(tmp_path / f"{bool(guard)}-{n}-{one}", seed=n, guard=guard, student=model(0.9, one, one, one))
            for n, one in enumerate(accuracies)
        ]

    hooked = runs(0.50, 0.52, 0.54, guard=GUARD)
    assert "; noise does not explain this lead." in html_of(*hooked, *runs(0.0, 0.02, 0.04))
    assert "; this lead over every other may be noise." in html_of(*hooked[:2], *runs(0.1, 0.4))


def test_a_failure_comes_with_the_command_to_run_next(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", gate=[item("failed", "the check")])
    command = f"guard-run --config {folder}/config.yaml --teacher {folder} --evaluation.protocol standard"
    assert f"<pre>{command}</pre>" in html_of(folder)
    assert "--evaluation.protocol standard" not in html_of(write_run(tmp_path / "b", gate=[item()]))


def test_the_page_says_what_each_kind_of_model_learned_from(tmp_path: Path) -> None:
    html = html_of(write_run(tmp_path / "a", learned_from="own"))
    assert "Student: trained on the distilled images with the soft labels that the method returned with them." in html
    assert "Student, hard labels: trained on the stored PNGs with one class per image, without the teacher." in html


def test_a_method_with_hard_labels_only_has_one_row_of_students(tmp_path: Path) -> None:
    hard = write_run(tmp_path / "a", method="dc", learned_from="hard", gate=[item()])
    html = html_of(hard)
    assert "Student, hard labels" not in html
    assert "with one class per image (hard labels)" in html
    assert "70.0" not in table(read_report(hard / "report.json"))  # the hard-label student's clean accuracy
    assert "Student, hard labels" in html_of(hard, write_run(tmp_path / "b", learned_from="soft"))
    failed = write_run(tmp_path / "c", learned_from="hard", hard_gate=[item("failed", "the check")])
    assert "student, hard labels. The check" in html_of(failed)  # a failure is never left out


def test_on_a_phone_every_cell_says_its_column(tmp_path: Path) -> None:
    html = html_of(write_run(tmp_path / "a"))
    assert '<td data-head="clean">90.0</td>' in html
    assert '<td data-head="ε = 16/255">30.0</td>' in html
    assert ".stack tr { display: grid;" in html


def test_every_class_of_the_distilled_images_has_its_name(tmp_path: Path) -> None:
    html = html_of(write_run(tmp_path / "a", classes=("zero", "one")))
    strips = re.findall(r'<figure class="strip n(\d+)"><figcaption>(\w+)</figcaption><img src="data:image/png', html)
    assert strips == [("2", "zero"), ("2", "one")]  # the sheet is 16 x 16 pixels: two rows of two images
    uneven = html_of(write_run(tmp_path / "b", classes=("zero", "one", "two")))
    assert "distilled images of sre2l, no hook, a row per class" in uneven  # whole, since it cannot be cut in three


def test_held_out_training_images_are_not_called_test_images(tmp_path: Path) -> None:
    name = "digits, 2 held-out training images per class"
    page = html_of(write_run(tmp_path / "run", dataset=name, student=model(0.9, 0.8, 0.6, 0.3)))
    assert "on 90.0 % of 100 held-out training images" in page
    assert "Right, in percent of 100 held-out training images" in page
    assert "100 test images" not in page
