"""The contract every method keeps, what is particular to EDC, and recovery against a slow twin in plain loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guard_edc.config import EDCConfig, EDCOptions
from guard_edc.method import EDC
from guard_edc.networks import NETWORKS
from guard_edc.recipe import EDCStudents
from guard_edc.recovery import Backbone, random_view, recover
from guard_edc.statistics import Inputs, collect, layers_of, patches
from guard_plugins import Normalised, TeacherSpec, configure
from guard_plugins.errors import ConfigError, DataError
from guard_plugins.networks.base import NetworkRequest
from guard_plugins.testing import check_installed, check_method, tiny_task
from guard_plugins.testing.fixtures import TinyRun

QUICK: dict[str, Any] = {"edc": {"backbones": ["convnet2"], "iterations": 4}}


def test_the_contract() -> None:
    check_method(EDC, settings=QUICK)


def test_it_is_installed() -> None:
    check_installed("edc")


def test_a_whole_run_trains_every_backbone_under_the_hook(tiny_run: TinyRun) -> None:
    report, folder = tiny_run("edc", **QUICK, student={"network": "convnet3", "epochs": 2})
    assert report.hook is not None
    assert report.hook.regularised_steps == report.hook.steps > 0
    assert report.learned_from == "mean"
    assert report.reported["backbones"] == 2
    assert (folder / "teachers" / "01.safetensors").exists()
    assert len(list((folder / "distilled").rglob("*.png"))) == 20


def two_backbones(*, side: int = 8) -> list[Normalised]:
    """Two tiny networks in float64, for images of 8 or 4 pixels a side; what BatchNorm has learned is drawn."""
    torch.manual_seed(3)
    models = []
    for width in (2, 3):
        network = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.SiLU(),
            nn.AvgPool2d(2) if side == 8 else nn.Identity(),
            nn.Conv2d(width, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 10),
        )  # fmt: skip
        network[1].running_mean.normal_()
        network[1].running_var.uniform_(0.5, 2)
        models.append(Normalised(network, mean=[0.3], std=[0.4]).double().eval().requires_grad_(False))
    return models


def moments(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / len(values)


def slow(inputs: list[Tensor], kinds: list[str]) -> list[list[float]]:
    """Mean and variance of channels, then of patches, of every layer's input (N, C, 4 or 8, same), value by value."""
    found: list[list[float]] = []
    for x, kind in zip(inputs, kinds, strict=True):
        count, channels, side, _ = x.shape
        pairs = [
            moments([float(x[n, c, i, j]) for n in range(count) for i in range(side) for j in range(side)])
            for c in range(channels)
        ]
        found += [[mean for mean, _ in pairs], [variance for _, variance in pairs]]
        if kind == "conv":
            corners = [(4 * u, 4 * v) for u in range(side // 4) for v in range(side // 4)]
            pairs = [
                moments([
                    float(x[n, c, top + i, left + j])
                    for n in range(count) for c in range(channels) for i in range(4) for j in range(4)
                ])
                for top, left in corners
            ]  # fmt: skip
            found += [[mean for mean, _ in pairs], [variance for _, variance in pairs]]
    return found


KINDS = ["conv", "norm", "conv"]


def layer_inputs(network: nn.Sequential, x: Tensor) -> list[Tensor]:
    """The inputs of the two convolutions and of BatchNorm, by calling the layers one by one."""
    first = network[0](x)
    return [x, first, network[3](network[2](network[1](first)))]


def test_statistics_of_real_images_are_those_of_plain_loops() -> None:
    model = two_backbones()[0]
    task = tiny_task(EDC, settings={"data": {"train_per_class": 2}})
    real = collect(task, model, batch=7, first=10.0, stage="statistics/0")
    split = task.data.train
    pixels = split.images(torch.arange(len(split))).double()
    batches = [range(start, min(start + 7, 20)) for start in range(0, 20, 7)]
    overall = [0.0] * len(real.overall)
    for rows in batches:
        flat = [value for vector in slow(layer_inputs(model.network, model.normalise(pixels[[*rows]])), KINDS)  # type: ignore[arg-type]
                for value in vector]  # fmt: skip
        overall = [a + b * len(rows) / 20 for a, b in zip(overall, flat, strict=True)]
    norm = model.network[1]
    place = sum(real.sizes[:4])
    overall[place : place + 4] = [*norm.running_mean.tolist(), *norm.running_var.tolist()]
    assert real.overall.tolist() == pytest.approx(overall, abs=1e-9)
    assert real.factors == [10.0] * 4 + [1.0] * 6
    for label in range(10):
        members = [n for n in range(20) if int(split.labels[n]) == label]
        each = [[v for vector in slow(layer_inputs(model.network, model.normalise(pixels[[n]])), KINDS) for v in vector]  # type: ignore[arg-type]
                for n in members]  # fmt: skip
        mean = [sum(values) / len(members) for values in zip(*each, strict=True)]
        assert real.classwise[label].tolist() == pytest.approx(mean, abs=1e-9)


class Twin:
    """Recovery in plain loops: the derivative by differences, Adam and all running means by their formulas."""

    def __init__(self, models: list[Normalised], reals: list[Any], labels: list[int], options: EDCOptions) -> None:
        self.models, self.reals, self.labels, self.options = models, reals, labels, options
        self.kept = [[0.0] * len(real.overall) for real in reals]

    def loss(self, number: int, x: Tensor, kept: list[float], frozen: list[list[float]] | None, calm: Tensor) -> Any:
        """The loss at x; with `frozen` directions of the distances, a function whose derivative is the step's."""
        model, real, options = self.models[number], self.reals[number], self.options
        observed = slow(layer_inputs(model.network, x), KINDS)  # type: ignore[arg-type]
        logits = model.network(x)
        total = 0.0
        for row, label in zip(logits.tolist(), self.labels, strict=True):
            total += (math.log(sum(math.exp(v) for v in row)) - row[label]) / len(self.labels)
        for row, other in zip((logits / 0.2).tolist(), (calm / 0.2).tolist(), strict=True):
            a, b = (math.log(sum(math.exp(v) for v in values)) for values in (row, other))
            divergence = sum(math.exp(q - b) * ((q - b) - (p - a)) for p, q in zip(row, other, strict=True))
            total += options.flatness * divergence / (10 * len(self.labels))
        own = [sum(float(real.classwise[y, d]) for y in self.labels) / len(self.labels) for d in range(len(kept))]
        directions, place = [], 0
        for index, vector in enumerate(observed):
            span = range(place, place + len(vector))
            for share, target in ((1 - options.alpha, real.overall.tolist()), (options.alpha, own)):
                weight = options.weight * real.factors[index] * share
                gap = [kept[d] - target[d] for d in span]
                length = math.sqrt(sum(value * value for value in gap))
                if frozen is None:
                    directions.append([weight * value / length for value in gap])
                else:
                    total += sum(a * b for a, b in zip(frozen[len(directions)], vector, strict=True))
                    directions.append([])
            place += len(vector)
        return directions if frozen is None else total

    def gradient(self, number: int, x: Tensor, smooth: Tensor) -> Tensor:
        momentum = self.options.momentum
        observed = [v for vector in slow(layer_inputs(self.models[number].network, x), KINDS) for v in vector]  # type: ignore[arg-type]
        kept = [momentum * a + (1 - momentum) * b for a, b in zip(self.kept[number], observed, strict=True)]
        self.kept[number] = kept
        calm = self.models[number].network(smooth)
        frozen = self.loss(number, x, kept, None, calm)
        slopes = torch.zeros_like(x)
        for place in range(x.numel()):
            ends = []
            for sign in (1, -1):
                moved = x.clone()
                moved.view(-1)[place] += sign * 1e-6
                ends.append(self.loss(number, moved, kept, frozen, calm))
            slopes.view(-1)[place] = (ends[0] - ends[1]) / 2e-6
        return slopes


class Middles:
    """The middle 4x4 pixels of a split's images, so that the loops are short."""

    def __init__(self, split: Any) -> None:
        self.split, self.labels = split, split.labels

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, index: Tensor) -> Tensor:
        return self.split.images(index)[..., 2:6, 2:6].contiguous()


def test_recovery_is_that_of_plain_loops() -> None:
    # Far from the published constants, so that every part counts for something.
    options = EDCOptions(
        iterations=3, lr=0.2, weight=0.2, alpha=0.3, flatness=100.0, flatness_decay=0.3, flatness_temperature=0.2,
        crop_scale=1.0, flip=False,
    )  # fmt: skip
    task, models = tiny_task(EDC, settings={"data": {"train_per_class": 2}}), two_backbones(side=4)
    task = replace(task, data=replace(task.data, train=Middles(task.data.train)))  # type: ignore[arg-type]
    reals = [collect(task, model, batch=20, first=10.0, stage=f"s/{i}") for i, model in enumerate(models)]
    start = task.data.train.images(torch.tensor([0, 5])).double()
    labels = [3, 7]
    backbones = [
        Backbone(model, real, torch.zeros(len(real.overall), dtype=torch.float64))
        for model, real in zip(models, reals, strict=True)
    ]
    found = recover(task, backbones, start, torch.tensor(labels), options).images

    twin = Twin(models, reals, labels, options)
    x = (start - 0.3) / 0.4
    smooth, first, second = x.clone(), torch.zeros_like(x), torch.zeros_like(x)
    for step in range(3):
        slope = twin.gradient(step % 2, x, smooth)
        smooth = 0.3 * smooth + 0.7 * x
        first, second = 0.5 * first + 0.5 * slope, 0.9 * second + 0.1 * slope**2
        rate = 0.2 * (1 + math.cos(math.pi * step / 3)) / 2
        x = x - rate * (first / (1 - 0.5 ** (step + 1))) / ((second / (1 - 0.9 ** (step + 1))).sqrt() + 1e-8)
        x = x.clamp(-0.3 / 0.4, 0.7 / 0.4)
    # Adam divides by the slope's size, so that a slope of nearly nothing may go either way: those are left out.
    clear = second.sqrt() > 1e-5
    assert clear.float().mean() > 0.9
    assert torch.allclose(found[clear], (x * 0.4 + 0.3)[clear], atol=1e-5)
    assert not torch.allclose(found, start, atol=1e-3)


def test_patches_of_odd_sides_are_enlarged() -> None:
    x = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    assert torch.equal(patches(x)[1, 2].view(3, 4, 4), x[1, :, 4:, :4])
    assert patches(torch.rand(2, 3, 5, 3)).shape == (2, 2, 48)


def test_a_view_is_the_same_for_all_images() -> None:
    one = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        view = random_view(one.repeat(3, 1, 1, 1), crop_scale=0.3, flip=True)
        assert torch.equal(view[0], view[2])
        seen.add(float(view.sum()))
    assert len(seen) > 10
    assert torch.equal(random_view(one, crop_scale=1.0, flip=False), one)


def test_hooks_are_removed_and_layers_in_order() -> None:
    network = two_backbones()[0].network
    layers = layers_of(network)
    assert [type(layer).__name__ for layer in layers] == ["Conv2d", "BatchNorm2d", "Conv2d"]
    with pytest.raises(RuntimeError, match="stop"), Inputs(layers):
        raise RuntimeError("stop")
    assert not any(layer._forward_pre_hooks for layer in layers)


@pytest.mark.parametrize("kind", NETWORKS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_every_backbone_is_built_as_asked(kind: Any, activation: Any) -> None:
    network = kind().build(NetworkRequest(image_shape=(1, 8, 8), classes=7, activation=activation)).eval()
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 7)
    kinds = {type(module) for module in network.modules()}
    assert (nn.SiLU in kinds) == (activation == "silu")
    assert bool(kinds & {nn.ReLU, nn.ReLU6}) == (activation == "relu")


def test_the_wide_network_has_its_published_size() -> None:
    (kind,) = [kind for kind in NETWORKS if kind.name == "wrn-16-2"]
    network = kind().build(NetworkRequest(image_shape=(3, 32, 32), classes=10))
    assert sum(value.numel() for value in network.parameters()) == pytest.approx(0.7e6, rel=0.05)


def test_the_published_settings() -> None:
    config = configure("edc", dataset="cifar10", data_root="images")
    options = config.edc  # type: ignore[attr-defined]
    assert (options.iterations, options.lr, options.weight, options.alpha) == (75, 0.05, 0.01, 0.5)
    assert len(options.backbones) == 7
    assert (config.teacher.network, config.teacher.epochs, config.student.protocol) == ("resnet18", 5, "edc")
    recipe = EDCStudents.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.weight_decay) == (1000, 25, 1e-3, 0.01)
    assert (recipe.loss, recipe.hard, recipe.ema, recipe.schedule, recipe.cutmix) == (
        "mse",
        0.025,
        0.99,
        "late-steps",
        1,
    )


def test_every_backbone_is_a_teacher_of_its_own() -> None:
    method = EDC(EDCConfig(edc=EDCOptions(backbones=("convnet2", "convnet2"))))
    assert method.teachers() == (
        TeacherSpec(), TeacherSpec(network="convnet2", seed=1), TeacherSpec(network="convnet2", seed=2),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flatness": 0.0, "flatness_decay": 0.5}, "--edc.flatness-decay would do nothing: --edc.flatness 0"),
        ({"weight": 0.0, "alpha": 0.1}, "--edc.alpha would do nothing: --edc.weight 0"),
    ],
)
def test_options_that_do_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure("edc", edc=options)


def test_what_cannot_work_is_refused_early() -> None:
    task = tiny_task(EDC, settings=QUICK)
    labels = task.data.train.labels.clone()
    labels[labels == 4] = 5
    split = type("Split", (), {"labels": labels, "__len__": lambda self: len(labels)})()
    with pytest.raises(DataError, match="The class '4' has no training image"):
        EDC(EDCConfig()).check(replace(task, data=replace(task.data, train=split)), None)
    with pytest.raises(ConfigError, match="too small for the network convnet3-w32"):
        EDC(EDCConfig(edc=EDCOptions(backbones=("convnet3-w32",)))).check(
            replace(task, data=replace(task.data, image_shape=(1, 4, 4))), None
        )
