"""The contract passes a method that keeps its promises, and names the promise that a broken one breaks."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional as F

from guard_plugins import DistilledSet, MethodConfig, Task
from guard_plugins.errors import ConfigError, DataError, PluginError
from guard_plugins.host import PluginHost
from guard_plugins.method import Method
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.loop import LoopState
from guard_plugins.testing import PROMISES, BrokenPromiseError, check_installed, check_method, tiny_task
from tests.testing.toy import Toy, ToyConfig


def check_broken(method: type[Method], promise: str, seen: str, **options: Any) -> None:
    with pytest.raises(BrokenPromiseError, match=seen) as caught:
        check_method(method, **options)
    assert caught.value.promise == promise
    assert str(caught.value).startswith(f"Broken promise ({promise}): {PROMISES[promise]}\n  seen: ")


def test_a_method_that_keeps_its_promises_passes_and_the_streams_are_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1][0], random.getstate()  # type: ignore[index]
    check_method(Toy, settings={"toy": {"rounds": 5, "brightness": 0.5}})
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1], before[2]) == (np.random.get_state()[1][0], random.getstate())  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "settings"),
    [("noise", {}), ("random", {}), ("sre2l", {"recover": {"iterations": 4}}), ("cda", {"recover": {"iterations": 4}})],
)
def test_the_methods_that_ship_keep_their_promises(name: str, settings: dict[str, Any]) -> None:
    check_method(PluginHost(only=[name]).method(name), settings=settings, instant=name in ("noise", "random"))


# --- declaration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "seen"),
    [
        ({"name": "Toy!"}, "name = 'Toy!'"),
        ({"name": 3}, "has no `name`"),
        ({"summary": " "}, "summary = ' '"),
        ({"summary": "two\nlines"}, "summary = 'two"),
        ({"guarded": ("train",)}, "wants 'train' guarded, but has no such function"),
        ({"guarded": "train_teacher"}, "not a tuple of names"),
        ({"guard_api": 99}, "declares guard_api = 99"),
        ({"uses_teacher": False}, "labels = 'soft', but uses_teacher = False"),
        ({"uses_teacher": False, "labels": "hard"}, "guarded names 'train_teacher', but uses_teacher = False"),
    ],
)
def test_a_wrong_declaration(attributes: dict[str, Any], seen: str) -> None:
    check_broken(type("Broken", (Toy,), attributes), "declaration", seen)


def test_an_option_of_guard_runs_own() -> None:
    class Config(MethodConfig):
        ipc: int = Field(3, description="mine")

    check_broken(type("Broken", (Toy,), {"Config": Config}), "declaration", "options that guard-run already has: ipc")


# --- options ---------------------------------------------------------------------------------------------------------


def _with_config(config: type[MethodConfig], **attributes: Any) -> type[Method]:
    return type("Broken", (Toy,), {"Config": config, "presets": {}, **attributes})


def test_an_option_without_help_or_default() -> None:
    class Silent(ToyConfig):
        knob: int = 3

    class Demanding(ToyConfig):
        knob_two: int = Field(description="no default")

    check_broken(_with_config(Silent), "options", "--knob has no description")
    check_broken(_with_config(Demanding), "options", "--knob-two has no default")


def test_an_option_that_comes_back_changed() -> None:
    class Doubling(ToyConfig):
        knob: int = Field(3, description="doubled whenever it is read")

        @field_validator("knob")
        @classmethod
        def _double(cls, value: int) -> int:
            return 2 * value

    check_broken(_with_config(Doubling), "options", "'knob': 6.* came back from YAML as .*'knob': 12")


def test_a_preset_and_settings_that_do_not_exist() -> None:
    check_broken(
        _with_config(ToyConfig, presets={"cifar10": {"toy": {"round": 3}}}), "options", "Unknown key 'toy.round'"
    )
    check_broken(Toy, "options", "Unknown key 'toy.round'", settings={"toy": {"round": 3}})


# --- guarded ---------------------------------------------------------------------------------------------------------


class Unreachable(Toy):
    def train_teacher(self, task: Task, model: Normalised) -> None:
        with torch.no_grad():
            model(task.data.train.images(torch.arange(4)))


class Uncalled(Toy):
    guarded: ClassVar[tuple[str, ...]] = ("train_teacher", "target")

    def target(self) -> None: ...


class Bypassing(Toy):
    """Calls the class's function, which the host cannot have wrapped."""

    guarded: ClassVar[tuple[str, ...]] = ("gradients",)
    uses_teacher: ClassVar[bool] = False
    labels: ClassVar[Literal["soft", "hard"]] = "hard"

    def gradients(self, model: Normalised, images: Tensor, labels: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters())))

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        model, index = task.network(stage="toy"), torch.arange(8)
        images, labels = task.data.train.images(index), task.data.train.labels[index]
        self.compute(model, images, labels)
        return super().distill(task, model)

    def compute(self, model: Normalised, images: Tensor, labels: Tensor) -> None:
        Bypassing.gradients(self, model, images, labels)


class Honest(Bypassing):
    def compute(self, model: Normalised, images: Tensor, labels: Tensor) -> None:
        self.gradients(model, images, labels)


def test_a_guarded_function_the_hook_does_not_reach() -> None:
    check_broken(Unreachable, "guarded", "in train_teacher the hook said")


def test_a_guarded_function_that_is_never_called_as_the_host_wraps_it() -> None:
    check_broken(Uncalled, "guarded", "'target' was never called")
    check_broken(Bypassing, "guarded", "'gradients' was never called")


def test_a_gradient_function_without_optimiser_is_a_fine_guarded_function() -> None:
    check_method(Honest)


# --- the set ---------------------------------------------------------------------------------------------------------


def _returning(change: Any) -> type[Method]:
    def distill(self: Toy, task: Task, teacher: Normalised | None) -> Any:
        return change(Toy.distill(self, task, teacher))

    return type("Broken", (Toy,), {"distill": distill})


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda s: (s.images, s.labels), "it is a tuple, not a DistilledSet"),
        (lambda s: DistilledSet(s.images[..., 1:], s.labels), "images of shape"),
        (lambda s: DistilledSet(s.images * 2, s.labels), r"leave the range \[0, 1\]"),
        (lambda s: DistilledSet(s.images / 0, s.labels), "not finite"),
        (lambda s: DistilledSet(s.images[:-1], s.labels[:-1]), "1 images of class '9', but --ipc 2"),
        (lambda s: DistilledSet(s.images, s.labels * 0), "20 images of class '0'"),
        (lambda s: DistilledSet(s.images, s.labels + 1), "labels from 1 to 10"),
        (lambda s: DistilledSet(s.images, s.labels - 1), "int64 from 0"),
        (lambda s: DistilledSet(s.images, s.labels.float()), r"labels \(20,\) torch\.float32"),
        (lambda s: DistilledSet(s.images.double(), s.labels), r"images must be plain torch\.float32"),
        (lambda s: DistilledSet(s.images, s.labels, torch.zeros(20, 3)), r"soft labels of shape \(20, 3\)"),
    ],
)
def test_a_wrong_set(change: Any, seen: str) -> None:
    check_broken(_returning(change), "set", seen)


def test_a_refusal_of_an_ordinary_task() -> None:
    class Refusing(Toy):
        def check(self, task: Task, teacher: Normalised | None) -> None:
            raise ConfigError("not with me")

    check_broken(Refusing, "set", "check raised ConfigError on an ordinary small task: not with me")


# --- seed, progress, resume -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        lambda shape: torch.rand(shape),
        lambda shape: torch.from_numpy(np.random.rand(*shape)).float(),
        lambda shape: torch.full(shape, random.random()),
        lambda shape: torch.rand(shape, generator=torch.Generator().manual_seed(int.from_bytes(os.urandom(4)))),
    ],
)
def test_randomness_that_does_not_follow_the_seed(draw: Any) -> None:
    class Unseeded(Toy):
        def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
            images = draw((20, *task.data.image_shape))
            return DistilledSet(images, super().distill(task, teacher).labels)

    check_broken(Unseeded, "seed", "images differ between")


def test_a_teacher_training_with_unseeded_randomness() -> None:
    class Unseeded(Toy):
        def train_teacher(self, task: Task, model: Normalised) -> None:
            with torch.no_grad():
                weights = next(model.parameters())
                weights.add_(torch.randn_like(weights))
            super().train_teacher(task, model)

    check_broken(Unseeded, "seed", "images differ between")


class Silent(Toy):
    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        assert teacher is not None
        labels = torch.arange(task.classes).repeat(task.ipc)
        return DistilledSet(torch.zeros(len(labels), *task.data.image_shape), labels)


def test_no_progress_reported() -> None:
    check_broken(Silent, "progress", "distill ended without any")
    check_method(Silent, instant=True)


def test_progress_without_steps_is_progress() -> None:
    class Tracking(Silent):
        def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
            with task.monitor.track("toy", 3) as tracker:
                tracker.advance(3)
            return super().distill(task, teacher)

    check_method(Tracking)


def test_a_loop_whose_state_is_not_whole() -> None:
    class Forgetful(Toy):
        def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
            labels = torch.arange(task.classes).repeat(task.ipc)
            images = torch.zeros(len(labels), *task.data.image_shape)
            for _ in task.steps("toy", 4, state=LoopState(labels=labels)):
                images += torch.rand(()) / 10
            return DistilledSet(images, labels)

    check_broken(Forgetful, "resume", "images differ after a stop at step 2 of 4")


# --- state ----------------------------------------------------------------------------------------------------------


def _before(action: Any) -> type[Method]:
    def distill(self: Toy, task: Task, teacher: Normalised) -> DistilledSet:
        action(task, teacher)
        return Toy.distill(self, task, teacher)

    return type("Broken", (Toy,), {"distill": distill})


@pytest.mark.parametrize(
    ("action", "seen"),
    [
        (
            lambda task, teacher: teacher.requires_grad_(True),
            "requires_grad of the teacher's weights changed from 0 to",
        ),
        (lambda task, teacher: teacher.train(), "layers in training mode changed from 0 to"),
        (lambda task, teacher: teacher.mean.add_(0.1), "the teacher's weights and buffers changed"),
        (
            lambda task, teacher: teacher.register_forward_hook(lambda *_: None),
            "hooks on the teacher changed from 0 to 1",
        ),
        (lambda task, teacher: task.data.train.labels.zero_(), "the training labels changed"),
        (lambda task, teacher: torch.backends.cudnn.__setattr__("benchmark", True), "cudnn.benchmark changed"),
        (lambda task, teacher: os.chdir("/"), "the working folder changed"),
    ],
)
def test_something_left_changed(action: Any, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.chdir(tmp_path)
    check_broken(_before(action), "state", seen)


@pytest.mark.parametrize(
    ("seed", "stream"),
    [
        (lambda: np.random.seed(0), "NumPy's global random stream ended in the same state"),
        (lambda: random.seed(0), "Python's global random stream ended"),
        (lambda: torch.manual_seed(0), "PyTorch's global random stream ended"),
    ],
)
def test_a_global_stream_seeded_by_the_method(seed: Any, stream: str) -> None:
    def reseed(result: DistilledSet) -> DistilledSet:
        seed()
        return result

    check_broken(_returning(reseed), "state", stream)


# --- errors ---------------------------------------------------------------------------------------------------------


def test_an_exception_of_a_foreign_type() -> None:
    check_broken(_before(lambda task, teacher: {}["x"]), "errors", "distill raised KeyError: 'x'")


class Greedy(Toy):
    error: ClassVar[type[Exception]] = IndexError

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        if task.ipc > int(torch.bincount(task.data.train.labels).min()):
            raise self.error("not enough images")
        return super().distill(task, teacher)


def test_a_request_beyond_the_data_may_be_refused_but_not_stumbled_over() -> None:
    check_broken(Greedy, "errors", "more images per class than the 12 real ones raised IndexError")
    check_method(type("Refusing", (Greedy,), {"error": DataError}))


def test_a_strange_teacher_may_be_refused_but_not_stumbled_over() -> None:
    def needs_batchnorm(task: Task, teacher: Normalised) -> None:
        next(layer for layer in teacher.modules() if isinstance(layer, torch.nn.BatchNorm2d))

    check_broken(_before(needs_batchnorm), "errors", "a teacher without BatchNorm raised StopIteration")


# --- helpers for authors --------------------------------------------------------------------------------------------


def test_installed_methods_are_found() -> None:
    check_installed("noise")
    with pytest.raises(ConfigError, match="Unknown method 'noize'"):
        check_installed("noize")


def test_a_broken_installed_plugin_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guard_baselines.noise.Noise.guarded", "distill")
    with pytest.raises(PluginError, match=r"'noise' of guard-plugins .* is broken"):
        check_installed("noise")


def test_the_tiny_task() -> None:
    task = tiny_task(Toy, settings={"ipc": 3})
    assert (task.ipc, task.classes, task.data.image_shape) == (3, 10, (1, 8, 8))
    assert len(task.data.train) == 120


# --- loops inside guarded functions -----------------------------------------------------------------------------------


class Experts(Toy):
    """Trains networks on real data in a guarded function that holds the loop itself, as trajectory matching does."""

    name = "toy-experts"
    guarded = ("expert",)
    uses_teacher, labels = False, "hard"
    whole: ClassVar[bool] = True

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        expert = self.expert(task)
        labels = torch.arange(task.classes).repeat(task.ipc)
        images = torch.rand((len(labels), *task.data.image_shape), generator=task.seeds.generator("toy", "start"))
        for _ in task.steps("images", 3, state=LoopState(images=images)):
            images.copy_(self.step(task, expert.eval(), images, labels))
        return DistilledSet(images, labels)

    def expert(self, task: Task) -> Normalised:
        expert = task.network("convnet3", stage="expert")
        adam = torch.optim.SGD(expert.parameters(), lr=0.05, momentum=0.9)
        state = LoopState(expert=expert, adam=adam) if self.whole else LoopState(expert=expert)
        index = torch.arange(0, len(task.data.train), 4)
        for step in task.steps("expert", 7, state=state):
            x, y = task.data.train.images(index), task.data.train.labels[index]
            adam.zero_grad()
            loss = F.cross_entropy(expert(x), y)
            loss.backward()
            adam.step()
            step.log(loss=loss)
        return expert


def test_a_guarded_loop_inside_distill_resumes_with_the_state_of_the_hook() -> None:
    # With every = 2 the hook must know on resuming whether an odd or an even step comes next.
    check_method(Experts, settings={"guard": {"every": 2}})
    forgetful = type("Forgetful", (Experts,), {"whole": False})
    check_broken(forgetful, "resume", "images differ after a stop at step 5 of 10")


class Schooled(Toy):
    """Trains its teacher in a loop of its own."""

    whole: ClassVar[bool] = True

    def train_teacher(self, task: Task, model: Normalised) -> None:
        adam = torch.optim.Adam(model.parameters(), lr=0.01)
        state = LoopState(model=model, adam=adam) if self.whole else LoopState(model=model)
        index = torch.arange(0, len(task.data.train), 4)
        for _ in task.steps("school", 4, state=state):
            adam.zero_grad()
            F.cross_entropy(model(task.data.train.images(index)), task.data.train.labels[index]).backward()
            adam.step()


def test_the_training_of_a_teacher_is_resumed_too() -> None:
    check_method(Schooled)
    forgetful = type("Forgetful", (Schooled,), {"whole": False})
    check_broken(forgetful, "resume", "the teacher's weights differ after a stop at step 2 of 4")


# --- files and numbers of the method's own ----------------------------------------------------------------------------


class Keeping(Toy):
    """Keeps a file for every part of its work, and does not repeat what is there."""

    honest: ClassVar[bool] = True

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        folder, made = task.folder("parts"), 0
        parts = []
        for number in range(3):
            if f"part-{number}" not in folder:
                part = torch.zeros(10, *task.data.image_shape)
                for step in task.steps(f"part-{number}", 2, state=LoopState(part=part)):
                    part += 0.1 * torch.rand(part.shape)
                    task.report(brightness=part.mean())
                    step.log(mean=part.mean())
                folder.save(f"part-{number}", {"part": part, "labels": [*range(10)]})
                made += 1
            parts.append(folder.load(f"part-{number}"))
        task.report(parts=len(list(folder)) if self.honest else made)
        images = torch.cat([part["part"] for part in parts[: task.ipc]] * task.ipc)[: 10 * task.ipc]
        return DistilledSet(images, torch.arange(10).repeat(task.ipc))


def test_files_and_numbers_survive_a_stop() -> None:
    check_method(Keeping)
    dishonest = type("Dishonest", (Keeping,), {"honest": False})
    check_broken(dishonest, "resume", "the reported numbers are .*'parts': 2.0.*, not .*'parts': 3.0")


# --- preview ---------------------------------------------------------------------------------------------------------


class Shown(Toy):
    """A toy that offers its images; what is wrong with it is said by the attributes.

    Attributes:
        offers: What is offered: the set, the first images, a damaged or a changed set.
    """

    previews = True
    offers: ClassVar[str] = "set"

    def distill(self, task: Task, teacher: Normalised | None) -> DistilledSet:
        assert teacher is not None
        labels = torch.arange(task.classes).repeat(task.ipc)
        images = torch.rand((len(labels), *task.data.image_shape), generator=task.seeds.generator("toy", "start"))
        first = images.clone()

        def made() -> DistilledSet:
            if self.offers == "changed":
                images.mul_(0.5)
            if self.offers == "a list":
                return [images]  # type: ignore[return-value]
            return DistilledSet(first if self.offers == "first" else images, labels)

        preview = None if self.offers == "nothing" else made
        for step in task.steps("toy", self.config.toy.rounds, state=LoopState(images=images), preview=preview):
            images.copy_(self.step(task, teacher, images, labels))
            step.log(mean=images.mean())
        return DistilledSet(images, labels)


@pytest.mark.parametrize(
    ("attributes", "seen"),
    [
        ({"offers": "nothing"}, "previews = True, but no loop has a `preview`"),
        ({"previews": False}, "previews = False, but a loop has a `preview`"),
        ({"offers": "first"}, "after the last step it is another set than `distill` returns"),
        ({"offers": "changed"}, "the images of the set differ after somebody looked"),
        ({"offers": "a list"}, "it is a list, not a DistilledSet"),
    ],
)
def test_images_that_are_not_offered_as_they_are(attributes: dict[str, Any], seen: str) -> None:
    check_broken(type("Broken", (Shown,), attributes), "preview", seen, settings={"toy": {"rounds": 2}})


def test_images_that_are_offered() -> None:
    check_method(Shown, settings={"toy": {"rounds": 3}})
