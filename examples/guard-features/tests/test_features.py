"""The contract every method keeps, and what is particular to the matching in robust features."""

from __future__ import annotations

import cmath
import copy
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from guard_features.config import FeaturesConfig, FeaturesOptions
from guard_features.distance import anchor_distance, characteristic_distance, mean_distance
from guard_features.frequencies import draw_frequencies
from guard_features.method import Features
from guard_plugins import Normalised, Task, TeacherSpec, configure
from guard_plugins.data.dsa import siamese_augment
from guard_plugins.errors import ConfigError, DataError
from guard_plugins.testing import check_installed, check_method, tiny_task
from guard_plugins.testing.fixtures import TinyRun

QUICK: dict[str, Any] = {"steps": 4, "real_batch": 6, "frequencies": 5, "snapshots": (0, 1)}


def features(**options: Any) -> Features:
    return Features(FeaturesConfig(features=FeaturesOptions.model_validate({**QUICK, **options})))


def with_one_teacher() -> tuple[Task, Normalised]:
    task = tiny_task(Features)
    teacher = task.network(stage="teacher").eval().requires_grad_(False)
    return replace(task, teachers=[SimpleNamespace(spec=TeacherSpec(), model=teacher)]), teacher


@pytest.mark.parametrize("formation", [1, 2])
def test_the_contract(formation: int) -> None:
    check_method(Features, settings={"features": {**QUICK, "formation": formation}, "teacher": {"epochs": 1}})


def test_it_is_installed() -> None:
    check_installed("features")


def test_a_whole_run_under_the_hook(tiny_run: TinyRun) -> None:
    report, folder = tiny_run("features", features={**QUICK, "formation": 2}, teacher={"epochs": 1})
    assert report.hook is not None
    assert report.hook.regularised_steps == report.hook.steps > 0
    assert len(list((folder / "distilled").rglob("*.png"))) == 20
    assert len(list((folder / "teachers").glob("01*.safetensors"))) == 3  # two snapshots, and the last weights


def test_characteristic_functions_are_compared_as_complex_means() -> None:
    generator = torch.Generator().manual_seed(0)
    mine, theirs = (torch.randn(count, 3, generator=generator, dtype=torch.float64) for count in (2, 7))
    frequencies = torch.randn(4, 3, generator=generator, dtype=torch.float64)

    def mean(points: Tensor, t: Tensor) -> complex:
        return sum(cmath.exp(1j * float(point @ t)) for point in points) / len(points)

    naive = sum(abs(mean(mine, t) - mean(theirs, t)) ** 2 for t in frequencies) / 4
    assert float(characteristic_distance(mine, theirs, frequencies)) == pytest.approx(naive, abs=1e-12)
    assert float(characteristic_distance(theirs, theirs.flip(0), frequencies)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("amplitude", [0.0, 0.3, 1.0])
def test_amplitudes_and_phases_have_their_weights(amplitude: float) -> None:
    mine, theirs = (
        torch.randn(count, 3, generator=torch.Generator().manual_seed(count), dtype=torch.float64) for count in (2, 7)
    )
    frequencies = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    naive = 0.0
    for t in frequencies:
        ours, wanted = (sum(cmath.exp(1j * float(point @ t)) for point in part) / len(part) for part in (mine, theirs))
        (a, p), (b, q) = cmath.polar(ours), cmath.polar(wanted)
        naive += (2 * amplitude * (a - b) ** 2 + 2 * (1 - amplitude) * 2 * a * b * (1 - cmath.cos(p - q).real)) / 4
    assert float(characteristic_distance(mine, theirs, frequencies, amplitude=amplitude)) == pytest.approx(naive)


def test_equal_weights_are_the_plain_distance() -> None:
    points = [torch.randn(count, 3, generator=torch.Generator().manual_seed(count)) for count in (2, 7, 4)]
    plain, near = (float(characteristic_distance(*points, amplitude=weight)) for weight in (0.5, 0.500001))
    assert plain == pytest.approx(near, rel=1e-4)


def test_the_amplitude_of_nothing_has_a_gradient() -> None:
    points = torch.tensor([[0.0], [0.0], [torch.pi], [-torch.pi]], requires_grad=True)  # 1, 1, -1 and -1
    characteristic_distance(points, torch.ones(3, 1), torch.ones(1, 1), amplitude=0.9).backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()


def test_the_amplitudes_weight_changes_the_images() -> None:
    task, teacher = with_one_teacher()
    images = [features(formation=2, amplitude=weight).distill(task, teacher).images for weight in (0.5, 0.9)]
    assert not torch.equal(*images)


def test_means_and_anchors_are_compared_by_squared_distances() -> None:
    mine, theirs = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    assert float(mean_distance(mine, theirs)) == (2 - 1) ** 2 + (1 - 1) ** 2
    assert float(anchor_distance(mine, theirs)) == ((1 + 1) + (1 + 1)) / 2


def test_frequencies_are_scaled_by_every_feature_s_deviation() -> None:
    real = torch.tensor([[0.0, 0.0, 5.0], [2.0, 20.0, 5.0]])  # deviations 1, 10 and none
    drawn = draw_frequencies(real, 20_000, 2.0, torch.Generator().manual_seed(0))
    # The mean square of a number uniform up to 2 is 4 / 3, shared by three features.
    expected = math.sqrt(4 / 3 / 3)
    assert float(drawn[:, 0].std()) == pytest.approx(expected, rel=0.03)
    assert float(drawn[:, 1].std()) == pytest.approx(expected / 10, rel=0.03)
    assert float(drawn[:, 2].std()) == pytest.approx(expected / 1e-3, rel=0.03)


@pytest.mark.parametrize("distance", ["characteristic", "mean", "anchor"])
def test_a_step_is_adam_on_the_distance_of_every_class(distance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step, written out: decode, augment, compare, differentiate; Adam's first step is the sign."""
    formation = 2 if distance == "anchor" else 1
    task, teacher = with_one_teacher()
    before = features(distance=distance, formation=formation, steps=1, lr=1e-30).distill(task, teacher).images
    after = features(distance=distance, formation=formation, steps=1, lr=0.01).distill(task, teacher).images
    for label in range(task.classes):
        part = slice(task.ipc * label, task.ipc * (label + 1))
        start = teacher.normalise(before[part]).double().requires_grad_()
        (gradient,) = torch.autograd.grad(_naive(task, teacher, distance, formation, start, label), start)
        moved = teacher.pixels(start.detach() - 0.01 * gradient.sign()).clamp(0, 1)
        clear = gradient.abs() > 1e-3 * gradient.abs().max()
        assert clear.float().mean() > 0.1
        assert torch.allclose(after[part].double()[clear], moved[clear], atol=1e-5)


def _naive(task: Any, teacher: Normalised, distance: str, formation: int, x: Tensor, label: int) -> Tensor:
    seed = task.seeds.derive("features", "augment", 0, label)
    strategy = FeaturesOptions().strategy
    teacher = copy.deepcopy(teacher).double()
    split, network = task.data.train, teacher.network
    members = torch.nonzero(split.labels == label).flatten()
    generator = task.seeds.generator("features", "real", 0, label)
    real = split.images(members[torch.randperm(len(members), generator=generator)[:6]])
    if distance == "anchor":
        generator = task.seeds.generator("features", "start", label)
        real = split.images(members[torch.randperm(len(members), generator=generator)[: task.ipc * 4]])
    tiles = x
    if formation == 2:
        half = x.shape[-1] // 2
        corners = [x[..., i : i + half, j : j + half] for i in (0, half) for j in (0, half)]
        tiles = F.interpolate(torch.stack(corners, 1).flatten(0, 1), scale_factor=2, mode="bilinear")

    def seen(images: Tensor) -> Tensor:
        out: Tensor = network.stages(network.stem(siamese_augment(images, strategy, seed=seed))).mean((2, 3))
        return out

    mine, theirs = seen(tiles), seen(teacher.normalise(real.double())).detach()
    if distance == "anchor":
        return torch.stack([(theirs[i] - mine[i]).square().sum() for i in range(len(mine))]).mean()
    if distance == "mean":
        return (theirs.mean(0) - mine.mean(0)).square().sum()
    generator = task.seeds.generator("features", "frequencies", 0, label)
    t = draw_frequencies(theirs.float(), 5, 2.0, generator).double()
    phases = [torch.exp(1j * (part @ t.T)).mean(0) for part in (mine, theirs)]
    gap: Tensor = (phases[0] - phases[1]).abs().square().mean()
    return gap


def test_the_distance_falls() -> None:
    task, teacher = with_one_teacher()
    options = {"steps": 40, "distance": "mean", "real_batch": 12, "strategy": "crop", "lr": 0.1}

    def distance(images: Tensor) -> float:
        found = 0.0
        for label in range(task.classes):
            real = task.data.train.images(torch.nonzero(task.data.train.labels == label).flatten())
            network = teacher.network
            mine, theirs = (
                network.stages(network.stem(teacher.normalise(each))).mean((2, 3)).mean(0)
                for each in (images[2 * label : 2 * label + 2], real)
            )
            found += float((mine - theirs).square().sum())
        return found

    start = features(**{**options, "steps": 1, "lr": 1e-30}).distill(task, teacher).images
    assert distance(features(**options).distill(task, teacher).images) < 0.5 * distance(start)


def test_further_teachers_have_snapshots_and_are_all_used() -> None:
    method = features(teachers=3, snapshots=(0, 1))
    assert [(spec.seed, spec.snapshots) for spec in method.teachers()] == [(0, ()), (1, (0, 1)), (2, (0, 1))]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"formation": 3}, ConfigError, r"cannot be cut into tiles of one size \(--features.formation\)"),
        ({"formation": 4}, DataError, "fewer than --ipc asks for"),
        ({"strategy": "wrong"}, ConfigError, "no Siamese augmentation called 'wrong'"),
        ({"distance": "anchor"}, ConfigError, "at no distance from them"),
    ],
)
def test_what_cannot_work_is_refused_early(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        features(**options).check(tiny_task(Features), None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"distance": "mean", "frequencies": 9}, "has frequencies"),
        ({"distance": "anchor", "formation": 2, "real_batch": 9}, "compares with the images it starts from"),
        ({"teachers": 1, "snapshots": (1,)}, "has none"),
        ({"distance": "mean", "amplitude": 0.9}, "only --features.distance characteristic has amplitudes"),
        ({"amplitude": 1.1}, "should be less than or equal to 1"),
    ],
)
def test_options_that_would_do_nothing_or_harm_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(method="features", features=given)


def test_the_recommended_setting_is_fast_with_four_images_in_one() -> None:
    asked = {"dataset": "folder", "data_root": "photographs"}
    recommended = configure("features", preset="fast-ipc1-2026-11", **asked)
    fast = configure("features", preset="fast", ipc=1, features={"formation": 2}, **asked)
    assert recommended == fast.model_copy(update={"preset": "fast-ipc1-2026-11"})
    assert configure("features", preset="fast-ipc1-2026-11", ipc=2, **asked).ipc == 2
    longer = configure("features", preset="fast-ipc1-2026-12", **asked)
    student = recommended.student.model_copy(update={"epochs": 1600})
    assert longer == recommended.model_copy(update={"preset": "fast-ipc1-2026-12", "student": student})
