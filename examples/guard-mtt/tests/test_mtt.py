"""The contract every method keeps, what is particular to MTT, and matching against a slow twin in plain loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guard_mtt.config import MTTConfig, MTTOptions
from guard_mtt.matching import latest_start, trajectory_distance
from guard_mtt.method import MTT
from guard_plugins import Normalised, TeacherSpec, configure
from guard_plugins.data.classwise import Classwise
from guard_plugins.errors import ConfigError, DataError
from guard_plugins.testing import check_installed, check_method, tiny_task
from guard_plugins.testing.fixtures import TinyRun

SHORT = {"experts": 2, "iterations": 4, "syn_steps": 2, "expert_epochs": 1, "latest_start": 1, "augment": "none"}
QUICK: dict[str, Any] = {"mtt": SHORT}


def mtt(**options: Any) -> MTT:
    return MTT(MTTConfig(mtt=MTTOptions.model_validate({**SHORT, **options})))


def test_the_contract() -> None:
    check_method(MTT, settings=QUICK)


def test_it_is_installed() -> None:
    check_installed("mtt")


def test_a_whole_run_with_all_of_datm(tiny_run: TinyRun) -> None:
    asked = {**SHORT, "labels": "learned", "latest_start": 2, "easy_start": 1, "expansion": 2, "batch": 7}
    # Momentum, as an expert that hardly moves leaves nothing to match.
    teacher = {"epochs": 3, "momentum": 0.9, "batch_size": 20}
    report, folder = tiny_run("mtt", mtt={**asked, "augment": "dsa"}, teacher=teacher, student={"epochs": 2})
    assert report.hook is not None
    assert report.hook.regularised_steps == report.hook.steps == 18
    assert report.learned_from == "own"
    assert report.reported["experts"] == 2
    names = sorted(path.name for path in (folder / "teachers").iterdir())
    assert names == [
        *(f"00-epoch-000{epoch}.safetensors" for epoch in range(3)),
        *(f"01-epoch-000{epoch}.safetensors" for epoch in range(3)), "01.safetensors",
    ]  # fmt: skip
    assert any("The students used what was learned with the images: a rate of" in note for note in report.notes)


def slow_distance(
    start: dict[str, Tensor], target: dict[str, Tensor], images: list[list[float]], labels: list[list[float]],
    rate: float, rows: list[list[int]],
) -> float:  # fmt: skip
    """Softmax regression by SGD, number by number, and how far its weights end from the target."""
    weight, bias = start["1.weight"].tolist(), start["1.bias"].tolist()
    classes = range(len(bias))
    for index in rows:
        by_weight, by_bias = [[0.0] * len(row) for row in weight], [0.0] * len(bias)
        for n in index:
            scores = [bias[k] + sum(w * x for w, x in zip(weight[k], images[n], strict=True)) for k in classes]
            total = sum(math.exp(score) for score in scores)
            for k in classes:
                error = (sum(labels[n]) * math.exp(scores[k]) / total - labels[n][k]) / len(index)
                by_bias[k] += error
                by_weight[k] = [g + error * x for g, x in zip(by_weight[k], images[n], strict=True)]
        weight = [[w - rate * g for w, g in zip(*pair, strict=True)] for pair in zip(weight, by_weight, strict=True)]
        bias = [b - rate * g for b, g in zip(bias, by_bias, strict=True)]
    off = way = 0.0
    for name, found in (("1.weight", weight), ("1.bias", [bias])):
        for row, mine in zip(target[name].reshape(len(found), -1).tolist(), found, strict=True):
            off += sum((a - b) ** 2 for a, b in zip(mine, row, strict=True))
        way += float(((start[name] - target[name]) ** 2).sum())
    return off / way


def test_the_distance_and_its_derivatives_are_those_of_plain_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    draw = {"generator": generator, "dtype": torch.float64}
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    start, target = ({"1.weight": torch.randn(3, 4, **draw), "1.bias": torch.randn(3, **draw)} for _ in range(2))  # type: ignore[call-overload]
    images, labels = torch.rand(5, 1, 2, 2, **draw), torch.softmax(torch.randn(5, 3, **draw), dim=1)  # type: ignore[call-overload]
    rows, rate = [[0, 3, 4], [1, 2], [4, 1]], torch.tensor(0.7, dtype=torch.float64)
    inputs = [value.requires_grad_() for value in (images, labels, rate)]
    found = trajectory_distance(
        network, start, target, *inputs, rows=[torch.tensor(index) for index in rows], augment=lambda x, number: x
    )
    slopes = torch.autograd.grad(found, inputs)

    def twin(values: list[Tensor]) -> float:
        flat, own = values[0].flatten(1).tolist(), values[1].tolist()
        return slow_distance(start, target, flat, own, float(values[2]), rows)

    plain = [value.detach() for value in inputs]
    assert float(found.detach()) == pytest.approx(twin(plain), rel=1e-12)
    for which, slope in enumerate(slopes):
        for place in range(slope.numel()):
            ends = []
            for sign in (1, -1):
                moved = [value.clone() for value in plain]
                moved[which].view(-1)[place] += sign * 1e-6
                ends.append(twin(moved))
            assert float(slope.view(-1)[place]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)


def test_batchnorm_and_the_experts_weights_are_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3)).train()
    start = {name: value.clone() for name, value in network.state_dict().items()}
    target = {name: value + 1 for name, value in start.items()}
    before = {name: value.clone() for name, value in start.items()}
    images, rate = torch.rand(4, 1, 4, 4, requires_grad=True), torch.tensor(0.1)
    trajectory_distance(
        network, start, target, images, torch.full((4, 3), 1 / 3), rate, rows=[torch.arange(4)] * 2,
        augment=lambda x, number: x,
    )  # fmt: skip
    for name, value in before.items():
        assert torch.equal(start[name], value)
        assert torch.equal(network.state_dict()[name], value)


def trained_expert(network: nn.Module, task: Any, *, epochs: int, seed: int) -> dict[int, dict[str, Tensor]]:
    """Weights after every epoch of a plain loop."""
    torch.manual_seed(seed)
    split, found = task.data.train, {0: {n: v.detach().clone() for n, v in network.state_dict().items()}}
    sgd = torch.optim.SGD(network.parameters(), lr=0.5)
    for epoch in range(epochs):
        for index in torch.randperm(len(split)).split(30):
            sgd.zero_grad()
            nn.functional.cross_entropy(network(split.images(index)), split.labels[index]).backward()
            sgd.step()
        found[epoch + 1] = {n: v.detach().clone() for n, v in network.state_dict().items()}
    return found


class Expert:
    """A trained teacher as `distill` sees it."""

    def __init__(self, known: dict[int, dict[str, Tensor]]) -> None:
        self.at = known.__getitem__


@pytest.mark.parametrize("labels", ["hard", "learned"])
def test_matching_brings_the_student_nearer(labels: str) -> None:
    options = {"iterations": 12, "syn_steps": 5, "experts": 1, "labels": labels}
    task = tiny_task(MTT, settings={"mtt": {**SHORT, **options}})
    model = task.network(stage="teacher")
    known = trained_expert(model, task, epochs=3, seed=1)
    method = mtt(**options, lr_images=20.0, lr_student=0.1, lr_lr=1e-3)
    logged: list[float] = []
    task = replace(task, teachers=(Expert(known),))  # type: ignore[arg-type]

    class Heard(type(task.monitor)):  # type: ignore[misc]
        def step(self, loop: str, index: int, numbers: Any) -> None:
            logged.append(numbers["distance"])

    first = method.distill(replace(task, monitor=Heard()), model.eval().requires_grad_(False))
    assert logged[-1] < 0.97 * logged[0]  # one expert from one epoch on: the same match at every step
    assert first.student_lr is not None
    assert first.student_lr != pytest.approx(0.1, abs=1e-6)
    assert first.soft_labels is not None
    hard = nn.functional.one_hot(first.labels, 10).float()
    assert torch.equal(first.soft_labels, hard) == (labels == "hard")


def test_every_image_is_drawn_before_one_is_drawn_again() -> None:
    rows = mtt(batch=4, syn_steps=7)._rows(10)
    assert len(rows) == 7
    assert sorted(torch.cat(rows[:3]).tolist()) == sorted(torch.cat(rows[3:6]).tolist()) == list(range(10))
    assert [len(index) for index in mtt(syn_steps=2)._rows(10)] == [10, 10]


def test_the_range_of_starts_grows_along_a_line() -> None:
    options = MTTOptions(latest_start=12, easy_start=4, expansion=80)
    assert [latest_start(step, options) for step in (0, 9, 10, 40, 79, 80, 500)] == [4, 4, 5, 8, 11, 12, 12]
    assert latest_start(0, MTTOptions(latest_start=12)) == 12


def test_learned_labels_begin_with_images_that_the_expert_knows() -> None:
    task = tiny_task(MTT, settings=QUICK)
    pixels = task.data.train.images(torch.arange(len(task.data.train)))

    class Bright(nn.Module):
        """Knows bright images, and takes all others for another class."""

        def __init__(self, label: int) -> None:
            super().__init__()
            self.label = label

        def forward(self, x: Tensor) -> Tensor:
            known = x.sum((1, 2, 3)) > middle
            return nn.functional.one_hot(torch.where(known, self.label, (self.label + 1) % 10), 10).float()

    middle = pixels.sum((1, 2, 3)).median()
    for label in range(10):
        members = pixels[task.data.train.labels == label]
        bright = int((members.sum((1, 2, 3)) > middle).sum())
        generator = task.seeds.generator("test", label)
        chosen = mtt(labels="learned")._known(task, Bright(label), Classwise(task.data.train, 10), label, generator)
        assert len(chosen) == 2
        assert int((chosen.sum((1, 2, 3)) > middle).sum()) == min(2, bright)


def test_every_expert_is_kept_where_matches_begin_and_end() -> None:
    assert mtt(experts=2, earliest_start=1, latest_start=3, expert_epochs=3).teachers() == [
        TeacherSpec(seed=0, snapshots=(1, 2, 4, 5)), TeacherSpec(seed=1, snapshots=(1, 2, 4, 5)),
    ]  # fmt: skip


def test_the_published_settings() -> None:
    config = configure("mtt", dataset="cifar10", data_root="images")
    options, teacher = config.mtt, config.teacher  # type: ignore[attr-defined]
    assert (options.experts, options.iterations, options.syn_steps, options.expert_epochs) == (100, 5000, 30, 2)
    assert (options.latest_start, options.lr_images, options.lr_lr, options.lr_student) == (15, 1000, 1e-5, 0.01)
    assert (teacher.network, teacher.epochs, teacher.lr, teacher.momentum) == ("convnet3", 50, 0.01, 0)
    assert config.student.protocol == "mtt"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mtt": {"augment": "none", "strategy": "crop"}}, "--mtt.strategy would do nothing"),
        ({"mtt": {"expansion": 7}}, "--mtt.expansion would do nothing: only with --mtt.easy-start"),
        ({"mtt": {"lr_labels": 7.0}}, "--mtt.lr-labels would do nothing"),
        ({"teacher": {"schedule": "cosine"}}, "--teacher.schedule would do nothing"),
    ],
)
def test_options_that_do_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure("mtt", **settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"earliest_start": 1}, "No epoch is left to begin a match at"),
        ({"easy_start": 2}, r"No epoch is left to begin a match at \(--mtt.easy-start 2\)"),
        ({"augment": "dsa", "strategy": "colour"}, "no Siamese augmentation called 'colour'"),
    ],
)
def test_what_cannot_work_is_refused_early(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mtt(**options).check(tiny_task(MTT, settings=QUICK), None)


def test_a_class_without_images_is_refused() -> None:
    task = tiny_task(MTT, settings=QUICK)
    labels = task.data.train.labels.clone()
    labels[labels == 4] = 5
    split = type("Split", (), {"labels": labels, "__len__": lambda self: len(labels)})()
    with pytest.raises(DataError, match="The class '4' has no training image"):
        mtt().check(replace(task, data=replace(task.data, train=split)), None)


def test_experts_train_by_plain_sgd_and_keep_their_epochs() -> None:
    task = tiny_task(MTT, settings=QUICK | {"teacher": {"network": "convnet3", "epochs": 2, "batch_size": 50}})
    model, kept = task.network(stage="teacher"), {}

    class Keeps:
        def take(self, epoch: int, network: Normalised) -> None:
            kept[epoch] = {name: value.detach().clone() for name, value in network.named_parameters()}

    mtt().train_teacher(replace(task, snapshots=Keeps()), model)  # type: ignore[arg-type]
    twin, rate = task.network(stage="teacher"), task.config.teacher.lr
    weights = dict(twin.named_parameters())
    velocity = {name: torch.zeros_like(value) for name, value in weights.items()}
    for epoch in range(2):
        order = torch.randperm(120, generator=task.seeds.generator("teacher", "order", epoch))
        for rows in (order[:50], order[50:100]):
            loss = nn.functional.cross_entropy(twin(task.data.train.images(rows)), task.data.train.labels[rows])
            for (name, value), slope in zip(
                weights.items(), torch.autograd.grad(loss, [*weights.values()]), strict=True
            ):
                slope = slope + task.config.teacher.weight_decay * value.detach()
                velocity[name] = task.config.teacher.momentum * velocity[name] + slope
                value.data -= rate * velocity[name]
        for name, value in weights.items():
            assert torch.allclose(kept[epoch + 1][name], value, atol=1e-4)
    assert sorted(kept) == [0, 1, 2]
    assert not model.training
