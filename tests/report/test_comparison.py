"""Which runs belong together, what they are called, and what is computed from several of them."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import pytest

from guard_plugins.artifacts.report import RobustAccuracy
from guard_plugins.errors import ConfigError, DamagedError
from guard_plugins.report.comparison import Comparison, baseline_of, compare
from guard_plugins.report.gate import verdicts
from guard_plugins.report.provenance import notes, provenance
from guard_plugins.report.runs import load_run
from guard_plugins.report.scores import scores
from guard_plugins.report.summary import findings, metrics
from tests.report.folders import GUARD, item, model, write_run


def comparison(*folders: Path) -> Comparison:
    return compare([load_run(folder) for folder in folders])


def test_runs_that_differ_in_the_seed_alone_become_mean_and_deviation(tmp_path: Path) -> None:
    students = [model(0.9, 0.8, 0.6, 0.3), model(0.8, 0.7, 0.5, 0.1), model(0.85, 0.75, 0.55, 0.3)]
    folders = [
        write_run(
            tmp_path / str(seed),
            seed=seed,
            student=student,
            config={"seed": seed, "teacher": {"path": f"{seed}.safetensors"}},
        )
        for seed, student in enumerate(students)
    ]
    (entry,) = comparison(*folders).entries
    found = entry.models["student"]
    assert found.models == 3
    assert (found.clean, found.sd) == (pytest.approx(0.85), pytest.approx(statistics.stdev([0.9, 0.8, 0.85])))
    assert found.robust[2].accuracy == pytest.approx((0.3 + 0.1 + 0.3) / 3)
    assert found.robust[2].sd == pytest.approx(statistics.stdev([0.3, 0.1, 0.3]))


def test_the_same_seed_twice_stays_two_experiments_with_different_names(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name) for name in ("first", "second")]
    labels = [entry.label for entry in comparison(*folders).entries]
    assert labels == ["sre2l, no hook, first", "sre2l, no hook, second"]


def test_labels_say_what_differs(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a", guard=GUARD, config={"student": {"epochs": 1}}),
        write_run(tmp_path / "b", guard=GUARD, config={"student": {"epochs": 50}}),
        write_run(tmp_path / "c"),
        write_run(tmp_path / "d", training="fgsm-rs"),
    ]
    labels = [entry.label for entry in comparison(*folders).entries]
    told = ["sre2l, hook, student.epochs 1", "sre2l, hook, student.epochs 50"]
    assert labels == [*told, "sre2l, no hook", "sre2l, fgsm-rs"]


def test_labels_have_images_per_class_and_test_images_where_those_differ(tmp_path: Path) -> None:
    few = model(0.9, 0.8, 0.6, 0.3)
    few = few.model_copy(update={"robust": [one.model_copy(update={"images": 50}) for one in few.robust]})
    folders = [write_run(tmp_path / "a", ipc=1), write_run(tmp_path / "b", method="dc", student=few)]
    labels = [entry.label for entry in comparison(*folders).entries]
    assert labels == ["sre2l, no hook, 1 per class, 100 test images", "dc, no hook, 10 per class, 50 test images"]


def test_settings_that_differ_and_no_label_has_are_said(tmp_path: Path) -> None:
    config = {"student": {"epochs": 20}, "random": {"formation": 1}, "guard": {"weight": 1.0}}
    other = {"student": {"epochs": 20, "guard_weight": 1.0}, "random": {"formation": 2}, "guard": {"weight": 2.0}}
    runs = [
        write_run(tmp_path / "a", method="random", guard=GUARD, config=config),
        write_run(tmp_path / "b", method="random", guard=GUARD, config=other),
    ]
    plain_label, help_label = (entry.label for entry in comparison(*runs).entries)
    assert notes(comparison(*runs))[-1] == (
        f"The experiments also differ in guard.weight (1.0: {plain_label!r}; 2.0: {help_label!r}); "
        f"random.formation (1: {plain_label!r}; 2: {help_label!r})."
    )
    plain = write_run(tmp_path / "c", method="random", config={**config, "guard": {"weight": 7.0}})
    assert notes(comparison(runs[0], plain)) == []  # without a hook its settings do nothing
    same = write_run(tmp_path / "d", method="random", guard=GUARD, config={**other, "student": {"epochs": 20}})
    found = comparison(runs[0], same)
    assert [entry.label for entry in found.entries] == [
        f"random, hook, guard.weight {float(n)}, random.formation {n}" for n in (1, 2)
    ]
    assert notes(found) == []
    third = write_run(tmp_path / "e", method="dc", guard=GUARD, config={"student": {"epochs": 60}})
    assert "student.epochs (20: 'random, hook'; 60: 'dc, hook')" in notes(comparison(runs[0], third))[-1]


def test_a_note_of_some_runs_names_them(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", guard=GUARD), write_run(tmp_path / "b")]
    path = runs[1] / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "notes": ["Read this."]}))
    assert notes(comparison(*runs)) == ["sre2l, no hook: Read this."]
    assert notes(comparison(runs[1])) == ["Read this."]


def test_a_note_of_one_seed_names_the_seed(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), seed=seed, config={"seed": seed}) for seed in range(3)]
    for number, said in ((1, ["Second."]), (2, ["Second.", "Third."])):
        path = runs[number] / "report.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "notes": [*said, "Both."][: number + 1]}))
    other = write_run(tmp_path / "hook", guard=GUARD)
    assert notes(comparison(*runs, other)) == [
        "sre2l, no hook, seeds 1, 2: Second.",
        "sre2l, no hook, seeds 1, 2: Both.",
        "sre2l, no hook, seed 2: Third.",
    ]


def test_notes_that_differ_in_numbers_alone_are_told_once(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), seed=seed, config={"seed": seed}) for seed in range(3)]
    for number, run in enumerate(runs):
        path = run / "report.json"
        said = [f"A rate of {0.0123 + number}, chosen for {5 + number:,} images.", "The same 7."]
        path.write_text(json.dumps({**json.loads(path.read_text()), "notes": said}))
    assert notes(comparison(*runs)) == [
        "A rate of 0.0123, chosen for 5 images. (seed 0; other seeds have other numbers)", "The same 7."
    ]  # fmt: skip
    other = write_run(tmp_path / "hook", guard=GUARD)
    assert notes(comparison(other, *runs))[1] == "sre2l, no hook: The same 7."


def with_teacher(folder: Path, digest: str) -> Path:
    record = {"teacher": {"inputs": "x", "files": {"teacher.safetensors": digest * 64}}}
    (folder / "stages.json").write_text(json.dumps(record))
    return folder


TRAINED = {"path": None, "epochs": 3}
GIVEN = {"path": "t.safetensors"}


def labels(*folders: Path) -> list[str]:
    return [entry.label for entry in comparison(*folders).entries]


def test_a_teacher_that_one_run_trained_and_another_was_given_tells_them_not_apart(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", config={"teacher": TRAINED, "student": {"epochs": 5}})
    second = write_run(tmp_path / "b", config={"teacher": GIVEN, "student": {"epochs": 7}})
    apart = ["sre2l, no hook, student.epochs 5, teacher.epochs 3", "sre2l, no hook, student.epochs 7, teacher given"]
    assert labels(first, second) == apart
    assert labels(with_teacher(first, "a"), with_teacher(second, "b")) == apart
    assert labels(first, with_teacher(second, "a")) == [f"sre2l, no hook, student.epochs {n}" for n in (5, 7)]
    (second / "stages.json").write_text("{")
    assert labels(first, second) == apart
    assert labels(second) == ["sre2l, no hook"]


def test_nothing_but_the_teacher_tells_apart(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, config={"teacher": said}) for name, said in (("a", TRAINED), ("b", GIVEN))]
    assert labels(*(with_teacher(run, "a") for run in runs)) == [
        "sre2l, no hook, teacher.epochs 3", "sre2l, no hook, teacher given"
    ]  # fmt: skip


def test_all_teachers_of_all_seeds_are_compared(tmp_path: Path) -> None:
    trained, given = (
        [
            with_teacher(
                write_run(
                    tmp_path / f"{name}{seed}", seed=seed, config={"teacher": said, "student": {"epochs": epochs}}
                ),
                "ab"[seed],
            )
            for seed in (0, 1)
        ]
        for name, said, epochs in (("trained", TRAINED, 5), ("given", GIVEN, 7))
    )
    for order in (given, given[::-1]):
        assert "teacher" not in " ".join(labels(*trained, *order))
    with_teacher(given[1], "c")
    assert "teacher given" in labels(*trained, *given)[1]


def test_runs_on_different_data_sets_are_not_compared(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "a"), write_run(tmp_path / "b", dataset="folder"), write_run(tmp_path / "c")]
    with pytest.raises(ConfigError, match="different data sets") as caught:
        comparison(*folders)
    assert "digits: a, c; folder: b" in str(caught.value)


def test_metrics_by_hand(tmp_path: Path) -> None:
    two = RobustAccuracy(attack="autoattack", norm="Linf", eps=16 / 255, accuracy=0.2, images=100)
    ours = write_run(
        tmp_path / "hook", guard=GUARD, student=model(0.9, 0.8, 0.6, 0.3, more=[two]), hard=model(0.7, 0, 0, 0)
    )
    plain = write_run(tmp_path / "plain", teacher=model(0.95, 0, 0, 0))
    yardstick = write_run(tmp_path / "random", method="random", guard=GUARD, student=model(0.84, 0, 0, 0))
    found = scores(comparison(ours, plain, yardstick))[0]
    assert [drop.value for drop in found.drops] == pytest.approx([1 / 9, 3 / 9, 6 / 9, 7 / 9])
    (ratio,) = found.ratios
    assert ratio.rr == pytest.approx(1 - (0.9 - 0.25) / (0.9 - 0.2))
    assert ratio.irr == pytest.approx(1 - (0.9 - 0.25) * (0.9 - 0.2) / 0.81)
    assert (found.hlr, found.ior) == (pytest.approx(0.25), pytest.approx(0.06))
    alpha = 0.5 * 0.06 - 0.5 * 0.25
    assert found.lrs == pytest.approx((math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1)))
    assert "'sre2l, no hook'" in found.basis
    assert "'random, hook'" in found.basis


def test_ars_by_hand_from_four_runs(tmp_path: Path) -> None:
    def written(method: str, augment: str | None, clean: float) -> Path:
        name, config = f"{method}-{augment}", {"student": {"augment": augment}}
        return write_run(tmp_path / name, method=method, guard=GUARD, student=model(clean, 0, 0, 0), config=config)

    # The recipe augments where the option is None, so that None and "crop-flip" are both "with".
    folders = [written("sre2l", None, 0.9), written("sre2l", "none", 0.7), written("random", None, 0.84)]
    assert [one.ars for one in scores(comparison(*folders))] == [None] * 3
    whole = [*folders, written("random", "none", 0.72)]
    beta = 0.5 * (0.9 - 0.84) + 0.5 * (0.7 - 0.72)
    expected = (math.exp(beta) - math.exp(-1)) / (math.e - math.exp(-1))
    assert [one.ars for one in scores(comparison(*whole))] == [pytest.approx(expected)] * 2 + [None] * 2
    table = metrics(comparison(*whole))
    assert table.rows[0][1][table.heads.index("ARS")] == f"{100 * expected:.1f}"


def test_metrics_that_need_other_runs_say_so(tmp_path: Path) -> None:
    (found,) = scores(comparison(write_run(tmp_path / "hook", guard=GUARD)))
    assert (found.hlr, found.ior, found.lrs) == (None, None, None)
    assert "needs a run with --no-guard" in found.basis
    assert "needs a run with --method random" in found.basis
    (found,) = scores(comparison(write_run(tmp_path / "random", method="random", guard=GUARD)))
    assert found.basis.endswith("no IOR, since these are random real images")
    table = metrics(comparison(tmp_path / "hook"))
    assert all(head.startswith("drop ") for head in table.heads)  # no column of dashes
    assert [name for name, _ in table.meanings] == ["drop"]


def test_random_images_under_another_student_recipe_are_no_yardstick(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "hook", guard=GUARD)
    other = write_run(tmp_path / "random", method="random", guard=GUARD, config={"student": {"epochs": 5}})
    assert scores(comparison(ours, other))[0].ior is None


def test_the_gain_is_said_where_the_baseline_is_half_broken(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "hook", guard=GUARD, student=model(0.92, 0.9, 0.8, 0.7))
    plain = write_run(tmp_path / "plain", student=model(0.9, 0.8, 0.5, 0.1))
    (sentence,) = findings(comparison(ours, plain))
    assert "80.0 % in place of 50.0 % (+30.0 points) under PGD-20 at ε = 4/255; " in sentence
    assert "92.0 % in place of 90.0 % (+2.0 points, within noise) without attack." in sentence


@pytest.mark.parametrize(
    ("option", "said"), [("guard_weight", "hook on students"), ("feature_weight", "features matched")]
)
def test_students_that_have_more_than_labels_are_compared_with_such_only(
    tmp_path: Path, option: str, said: str
) -> None:
    weighted = {"student": {option: 1.0}}
    ours = write_run(tmp_path / "hook", guard=GUARD, student=model(0.92, 0.9, 0.8, 0.7), config=weighted)
    plain = write_run(tmp_path / "plain", student=model(0.9, 0.8, 0.5, 0.1))
    found = comparison(ours, plain)
    assert [entry.label for entry in found.entries] == [f"sre2l, hook, {said}", "sre2l, no hook"]
    assert baseline_of(found.entries[0], "student", found) is None
    alike = write_run(tmp_path / "alike", student=model(0.9, 0.8, 0.5, 0.1), config=weighted)
    found = comparison(ours, plain, alike)
    assert (baseline_of(found.entries[0], "teacher", found) or found.entries[0]).label == "sre2l, no hook"
    baseline = baseline_of(found.entries[0], "student", found)
    assert baseline is not None
    assert baseline.label == f"sre2l, no hook, {said}"


def test_runs_of_before_an_option_came_are_seeds_of_the_same_experiment(tmp_path: Path) -> None:
    old = write_run(tmp_path / "old", seed=0, config={"student": {}})
    new = write_run(tmp_path / "new", seed=1, config={"student": {"feature_weight": 0.0}})
    (entry,) = comparison(old, new).entries
    assert len(entry.runs) == 2


def test_a_baseline_among_the_runs_decides_the_items_that_need_one(tmp_path: Path) -> None:
    asked = [item("not run", "clean accuracy kept"), item("not run", "gains agree across attacks"), item("passed")]
    ours = write_run(tmp_path / "hook", guard=GUARD, student=model(0.7, 0.6, 0.5, 0.4), gate=asked)
    plain = write_run(tmp_path / "plain", student=model(0.9, 0.8, 0.5, 0.1))
    (alone,) = verdicts(comparison(ours))
    assert [one.verdict for one in alone.items] == ["not run", "not run", "passed"]
    found = verdicts(comparison(ours, plain))[0]
    assert [one.verdict for one in found.items] == ["warning", "not run", "passed"]
    assert "70.0 %, without the hook 90.0 %" in found.items[0].figure
    assert found.tally == "1 passed, 1 warning, 1 not run"


def test_a_folder_without_a_finished_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no finished run in") as caught:
        load_run(tmp_path)
    assert "Give the folder of a run" in caught.value.do
    (tmp_path / "config.yaml").write_text("method: sre2l")
    with pytest.raises(ConfigError) as caught:
        load_run(tmp_path)
    assert "guard-run --resume" in caught.value.do


@pytest.mark.parametrize(
    ("name", "content"),
    [("report.json", "{"), ("report.json", '{"method": "x"}'), ("manifest.json", "nope"), ("config.yaml", "a: [")],
)
def test_a_damaged_run_is_one_message(tmp_path: Path, name: str, content: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / name).write_text(content)
    with pytest.raises((ConfigError, DamagedError)) as caught:
        load_run(folder)
    assert caught.value.exit_code == 2
    assert str(folder) in caught.value.what
    assert caught.value.do


def test_a_weight_that_only_rivals_have_does_not_tell_other_runs_apart(tmp_path: Path) -> None:
    old, new = ({"teacher": {"training": "plain", "rival_weight": weight}} for weight in (6.0, None))
    folders = [write_run(tmp_path / "a", config=old), write_run(tmp_path / "b", seed=1, config=new)]
    assert [entry.label for entry in comparison(*folders).entries] == ["sre2l, no hook"]
    told = ({"teacher": {"training": "trades", "rival_weight": weight}} for weight in (6.0, 1.0))
    rivals = [write_run(tmp_path / f"t{n}", seed=n, training="trades", config=one) for n, one in enumerate(told)]
    assert len(comparison(*rivals).entries) == 2


def test_runs_of_two_versions_are_no_seeds_of_one_experiment(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(seed), seed=seed) for seed in (0, 1, 2)]
    manifest = json.loads((folders[2] / "manifest.json").read_text())
    manifest["versions"] = {"torch": "2.7"}
    (folders[2] / "manifest.json").write_text(json.dumps(manifest))
    found = comparison(*folders)
    assert [len(entry.runs) for entry in found.entries] == [2, 1]
    assert [entry.label for entry in found.entries] == [
        "sre2l, no hook, seeds 0, 1, versions torch 2.6", "sre2l, no hook, seed 2, versions torch 2.7",
    ]  # fmt: skip


def test_two_versions_of_a_plugin_are_two_experiments(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(seed), seed=seed, method="mine") for seed in (0, 1)]
    for folder, version in zip(folders, ("1.0", "2.0"), strict=True):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["plugins"] = [{"name": "mine", "distribution": "guard-mine", "version": version}]
        (folder / "manifest.json").write_text(json.dumps(manifest))
    assert [len(entry.runs) for entry in comparison(*folders).entries] == [1, 1]


def test_a_run_that_two_versions_worked_on_is_no_seed_of_runs_by_one(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    manifest = json.loads((folders[1] / "manifest.json").read_text())
    manifest["resumed"] = [{"created": "2026-02-03T04:05:06+0000", "versions": {"torch": "2.7"}}, 5]
    (folders[1] / "manifest.json").write_text(json.dumps(manifest))
    found = comparison(*folders)
    assert [entry.label for entry in found.entries] == [
        "sre2l, no hook, seed 0, versions torch 2.6", "sre2l, no hook, seed 1, versions torch 2.6, torch 2.7",
    ]  # fmt: skip
    first, second = provenance(found)
    assert "Resumed" not in first.facts
    assert "Resumed under other conditions 2026-02-03T04:05:06+0000. torch 2.7." in second.facts


def test_runs_with_a_given_teacher_do_not_differ_in_how_none_was_trained(tmp_path: Path) -> None:
    trained = {"teacher": {"network": "small-resnet", "path": None, "training": "plain", "epochs": 1}}
    given = [{"teacher": trained["teacher"] | {"path": "t.safetensors", "epochs": epochs}} for epochs in (1, 10)]
    folders = [write_run(tmp_path / str(n), seed=n, config=one) for n, one in enumerate([trained, *given])]
    found = comparison(*folders)
    assert [len(entry.runs) for entry in found.entries] == [1, 2]
    assert [entry.label for entry in found.entries] == [
        "sre2l, no hook, teacher.epochs 1, teacher.training plain, seed 0",
        "sre2l, no hook, teacher given, seeds 1, 2",
    ]


def test_a_teacher_that_runs_share_is_one_model(tmp_path: Path) -> None:
    teachers = (model(0.9, 0.8, 0.6, 0.3), model(0.9, 0.8, 0.6, 0.3), model(0.7, 0.5, 0.4, 0.2))
    folders = [write_run(tmp_path / str(seed), seed=seed, teacher=teachers[seed]) for seed in (0, 1, 2)]
    for folder, digest in zip(folders, ("a", "a", "b"), strict=True):
        record = {"teacher": {"inputs": "x", "files": {"teacher.safetensors": digest * 64}, "notes": {}}}
        (folder / "stages.json").write_text(json.dumps(record))
    both, shared = comparison(*folders).entries[0], comparison(*folders[:2]).entries[0]
    assert both.models["teacher"].models == 2
    assert both.models["teacher"].clean == pytest.approx(0.8)
    assert (shared.models["teacher"].models, shared.models["teacher"].sd) == (1, None)
    assert shared.models["student"].models == 2


def test_runs_on_own_images_of_other_classes_are_not_compared(tmp_path: Path) -> None:
    named = {"a": ("cat", "dog"), "b": ("dog", "cat"), "c": ("car", "bus", "tram", "bike")}
    cats, dogs, cars = (
        load_run(write_run(tmp_path / name, dataset="folder", seed=n, classes=classes))
        for n, (name, classes) in enumerate(named.items())
    )
    assert len(compare([cats, dogs]).entries) == 1
    with pytest.raises(ConfigError, match="different classes") as caught:
        compare([cats, dogs, cars])
    assert caught.value.seen == "a: cat, dog; c: car, bus, tram and 1 more"
