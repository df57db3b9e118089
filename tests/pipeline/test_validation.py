"""``--distill.validate-every``: what it finds is true, it changes nothing, and a stopped one goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from guard_plugins import DistilledSet, LoopState, Method, configure, run
from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.parts import Validation
from guard_plugins.config import RunConfig
from guard_plugins.errors import ConfigError, PluginError
from guard_plugins.host.configure import host_of
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.preparation import prepare
from guard_plugins.pipeline.processes.shares import do_share
from guard_plugins.pipeline.runner import do_stages
from guard_plugins.pipeline.stages import STAGES
from guard_plugins.pipeline.students.validation import LOOP, Validator, require_one_process
from guard_plugins.report.markdown import markdown
from guard_plugins.runtime import tensorboard as board
from guard_plugins.runtime.engine import repeatable
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.sharing.shares import Share
from guard_plugins.runtime.signals import StoppedError, StopRequest
from guard_plugins.training.student import train_student
from guard_plugins.training.student_batches import online
from tests.runtime.test_callbacks import example

TINY: dict[str, Any] = {
    "ipc": 1,
    "device": "cpu",
    "data": {"train_per_class": 8, "validation_per_class": 2, "test_per_class": 1},
    "teacher": {"epochs": 1, "batch_size": 20},
    "student": {"epochs": 2},
    "checkpoint_every": 1e9,
}
SRE2L = {**TINY, "recover": {"iterations": 5}}
EVERY = {"distill": {"validate_every": 2}}


class Drawn(Method):
    """Adds noise to grey images, with a loop that computes under no_grad."""

    name, summary, previews = "drawn", "noise", True
    guarded, uses_teacher, labels = (), False, "hard"

    def distill(self, task, teacher):  # type: ignore[no-untyped-def]
        """Return the images."""
        labels = torch.arange(task.classes).repeat_interleave(task.ipc)
        images = torch.full((len(labels), *task.data.image_shape), 0.5)

        def made() -> DistilledSet:
            torch.rand(7)  # whatever it draws is no business of the loop
            return DistilledSet(images, labels)

        with torch.no_grad():
            for _ in task.steps("drawn", 5, state=LoopState(images=images), preview=made):
                images.add_(0.1 * torch.randn_like(images)).clamp_(0, 1)
        task.report(last=torch.rand(()))  # from the stream that the loop left
        return made()


class Guarded(Method):
    """Matches nothing, but its guarded function holds the loop, so that the hook is at work around it."""

    name, summary, previews = "held", "a loop under the hook", True
    guarded, uses_teacher, labels = ("inner",), False, "hard"

    def inner(self, task, images, labels):  # type: ignore[no-untyped-def]
        """Train a network on real images, step by step, and move the images by its weights."""
        net = task.network("convnet3", stage="held").train()
        sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        made = lambda: DistilledSet(images, labels)  # noqa: E731
        for _ in task.steps("held", 4, state=LoopState(images=images, net=net, sgd=sgd), preview=made):
            rows = torch.randint(len(task.data.train), (8,))
            loss = torch.nn.functional.cross_entropy(net(task.data.train.images(rows)), task.data.train.labels[rows])
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            with torch.no_grad():
                images.add_(0.1 * loss).remainder_(1)
        return made()

    def distill(self, task, teacher):  # type: ignore[no-untyped-def]
        """Return the images."""
        labels = torch.arange(task.classes).repeat_interleave(task.ipc)
        return self.inner(task, torch.full((len(labels), 1, 16, 16), 0.5), labels)


def distilled(folder: Path, config: RunConfig, stop: StopRequest | None = None) -> RunContext:
    """Do the stages up to the distillation, new or resumed."""
    with repeatable():
        folder.mkdir(exist_ok=True)
        context = RunContext.start(prepare(config, host_of(config)), RunFolder(folder), stop or StopRequest())
        do_stages(context, STAGES, until="distill")
    return context


def found(context: RunContext) -> list[dict[str, Any]]:
    """Return the results without their times."""
    return [{**entry, "seconds": 0} for entry in context.ledger.notes("distill").get("validation", [])]


@pytest.mark.parametrize(
    ("method", "settings"),
    [("sre2l", SRE2L), (Drawn, {**TINY, "teacher": {}}), (Guarded, {**TINY, "data": {**TINY["data"], "image_size": 16},
                                                                    "teacher": {"network": "convnet3"}})],
    ids=["sre2l", "drawn", "held"],
)  # fmt: skip
def test_looking_changes_nothing(method: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    plain = distilled(tmp_path / "plain", configure(method, **settings))
    looked = distilled(tmp_path / "looked", configure(method, **{**settings, **EVERY}))
    one, other = plain.results.distilled, looked.results.distilled
    assert torch.equal(one.images, other.images)
    notes = [context.ledger.notes("distill") for context in (plain, looked)]
    assert notes[0].get("hook") == notes[1].get("hook")
    assert notes[0].get("reported") == notes[1].get("reported")
    total = 4 if method is Guarded else 5
    assert [entry["step"] for entry in found(looked)] == ([2, 4] if total == 4 else [2, 4, 5])
    assert found(plain) == []


def test_what_is_found_is_the_accuracy_of_a_student_of_these_images(tmp_path: Path) -> None:
    context = distilled(tmp_path / "run", configure("sre2l", **{**SRE2L, **EVERY}))
    task, teacher = context.task, context.results.teacher
    student = train_student(task, online(task, context.results.distilled, teacher)("validation"), stage=LOOP)
    held = task.data.test  # the set-aside training images
    with torch.no_grad():
        right = student(held.images(torch.arange(len(held)))).argmax(1) == held.labels
    *_, last = found(context)
    assert last["images"] == len(held) == 20
    assert last["clean"] == pytest.approx(right.float().mean().item())
    assert last["robust"] <= last["clean"]
    assert (last["loop"], last["steps"], last["distilled"], last["attack"]) == ("recover/0", 5, 10, "pgd-20")
    assert last["eps"] == pytest.approx(4 / 255)


class _StopAfter(StopRequest):
    """A stop signal after a number of steps of all loops."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    @property
    def asked(self) -> bool:
        """Whether the next check stops."""
        return self.left <= 1

    def check(self) -> None:
        """Count a step."""
        self.left -= 1
        if self.left <= 0:
            raise StoppedError(15)


@pytest.mark.parametrize("steps", [3, 6, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (1, 2, 4, 9))])
@pytest.mark.slow
def test_one_that_is_stopped_anywhere_goes_on(steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure(Drawn, **{**TINY, "teacher": {}, **EVERY})
    whole = distilled(tmp_path / "whole", config)
    with pytest.raises(StoppedError):
        distilled(tmp_path / "run", config, _StopAfter(steps))
    begun: list[tuple[str, int]] = []
    original = Keeper.begin

    def begin(self: Keeper, loop: str, state: LoopState) -> int:
        begun.append((loop, original(self, loop, state)))
        return begun[-1][1]

    monkeypatch.setattr(Keeper, "begin", begin)
    resumed = distilled(tmp_path / "run", config)
    assert torch.equal(resumed.results.distilled.images, whole.results.distilled.images)
    assert found(resumed) == found(whole)
    # The method's 2 steps, 2 steps of the first student, and so on: what was done is not done again.
    before = {1: (1, 3), 2: (2, 3), 3: (2, 3), 4: (2, 3), 6: (4, 2), 9: (5, 1)}[steps]
    assert (begun[0][1], len(begun) - 1) == before
    assert sum(done for loop, done in begun if loop == LOOP) == {3: 1, 4: 2}.get(steps, 0)


def test_screen_events_callback_and_report_have_it(tmp_path: Path) -> None:
    heard: list[Mapping[str, Any]] = []
    settings = {**TINY, "teacher": {}, "evaluation": {"protocol": "fgsm", "eps": [8], "gate": "off", "images": 5}}
    config = configure(Drawn, **{**settings, **EVERY, "output": tmp_path / "run"})
    report = run(config, callback=heard.append)
    events = [event for event in heard if event["event"] == "validation"]
    assert [Validation.model_validate({k: v for k, v in e.items() if k not in ("event", "time")}) for e in events] == (
        report.validation
    )
    assert [(entry.step, entry.images, entry.eps) for entry in report.validation] == [
        (2, 5, 8 / 255), (4, 5, 8 / 255), (5, 5, 8 / 255)
    ]  # fmt: skip
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    assert [event for event in map(json.loads, lines) if event["event"] == "validation"] == events
    assert {event["loop"] for event in heard if event["event"] == "step"} <= {"drawn", "student/0", "student-hard/0"}
    said = [event["text"] for event in heard if event["event"] == "message"]
    assert any("validation after 2 of 5 steps of drawn: " in text and "5 held-out images" in text for text in said)
    assert any(text.startswith("validation: a student of about") for text in said)
    assert "| drawn | 2 of 5 | 10 | " in markdown(report)
    assert '<td data-head="steps">2 of 5</td>' in (tmp_path / "run" / "report.html").read_text()


def test_the_callbacks_of_the_examples_show_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = {"event": "validation", "loop": "recover/0", "step": 3, "clean": 0.5, "robust": 0.25}
    example("csv_log").csv_log(tmp_path / "numbers.csv")(event)
    assert (tmp_path / "numbers.csv").read_text().splitlines()[1:] == [
        "recover/0,3,validation clean,0.5", "recover/0,3,validation robust,0.25"
    ]  # fmt: skip
    import sys
    import types

    points: list[Any] = []
    fake: Any = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = lambda folder: types.SimpleNamespace(add_scalar=lambda *point: points.append(point))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    board.tensorboard(tmp_path)(event)
    assert points == [("recover/0/validation clean", 0.5, 3), ("recover/0/validation robust", 0.25, 3)]


@pytest.mark.parametrize(
    ("method", "settings", "why"),
    [
        ("random", TINY, "the method random does not offer its images while it works"),
        ("sre2l", {**SRE2L, "data": {}}, "no training image is held out, and test images are not for this"),
    ],
)
def test_it_is_refused_where_it_can_do_nothing(method: str, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=f"--distill.validate-every would do nothing: {why}"):
        configure(method, **{**settings, **EVERY})


def test_it_is_refused_where_processes_share_the_distillation(tmp_path: Path) -> None:
    config = configure("sre2l", **{**SRE2L, **EVERY})
    with pytest.raises(ConfigError, match="validate-every follows the loops of one process"):
        do_share(tmp_path, config, Share(0, 2), "distill")
    require_one_process(configure("sre2l", **SRE2L))


def test_a_preview_that_is_no_set_names_the_plugin(tmp_path: Path) -> None:
    class Wrong(Drawn):
        """Offers a tensor."""

        name = "wrong"

        def distill(self, task, teacher):  # type: ignore[no-untyped-def]
            """Offer something else."""
            for _ in task.steps("wrong", 2, state=LoopState(), preview=lambda: torch.rand(3)):
                pass

    with pytest.raises(PluginError, match=r"'wrong' of .* is not what `preview` must return: it is a Tensor"):
        distilled(tmp_path / "run", configure(Wrong, **{**TINY, "teacher": {}, **EVERY}))


def test_a_method_that_offers_nothing_after_all_is_said(tmp_path: Path) -> None:
    class Silent(Drawn):
        """Says that it offers images, and does not."""

        name = "silent"

        def distill(self, task, teacher):  # type: ignore[no-untyped-def]
            """Return grey images."""
            labels = torch.arange(task.classes)
            return DistilledSet(torch.full((len(labels), *task.data.image_shape), 0.5), labels)

    distilled(tmp_path / "run", configure(Silent, **{**TINY, "teacher": {}, **EVERY}))
    assert "no loop of the method offered its images" in (tmp_path / "run" / "events.jsonl").read_text()


def test_the_labeller_is_a_copy_of_the_teacher(tmp_path: Path) -> None:
    context = distilled(tmp_path / "run", configure("sre2l", **SRE2L))
    copy, teacher = Validator(context)._teacher, context.results.teacher
    assert copy is not None
    assert teacher is not None
    assert copy is not teacher
    x = torch.rand(3, *context.task.data.image_shape)
    assert torch.equal(copy(x), teacher(x))
