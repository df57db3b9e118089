"""Frequencies that a network learns."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guard_features import method as method_module
from guard_features.config import FeaturesConfig, FeaturesOptions
from guard_features.distance import characteristic_distance
from guard_features.frequencies import FrequencyNetwork, draw_frequencies
from guard_features.matching import Matching
from guard_features.method import Features
from guard_plugins import DistilledSet, Normalised, Task, TeacherSpec, configure
from guard_plugins.data.dsa import siamese_augment
from guard_plugins.errors import ConfigError
from guard_plugins.networks.embedding import Embedding
from guard_plugins.testing import check_method, tiny_task

QUICK: dict[str, Any] = {"steps": 4, "real_batch": 6, "frequencies": 5, "snapshots": (0, 1)}
LEARNED: dict[str, Any] = {**QUICK, "frequencies_from": "learned"}


def distilled(task: Task, teacher: Normalised, **options: Any) -> Tensor:
    settings = FeaturesOptions.model_validate({**QUICK, **options})
    return Features(FeaturesConfig(features=settings)).distill(task, teacher).images


def with_one_teacher() -> tuple[Task, Normalised]:
    task = tiny_task(Features)
    teacher = task.network(stage="teacher").eval().requires_grad_(False)
    return replace(task, teachers=[SimpleNamespace(spec=TeacherSpec(), model=teacher)]), teacher


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(network: FrequencyNetwork) -> FrequencyNetwork:
    """Give the network weights that move frequencies, as after some steps."""
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3, generator=seeded(1))
    return network


def test_the_contract_with_learned_frequencies() -> None:
    """Among others: equal runs give equal bits, and so does a run that was stopped and went on."""
    settings = {**LEARNED, "frequency_lr": 0.1, "formation": 2, "amplitude": 0.3}
    check_method(Features, settings={"features": settings, "teacher": {"epochs": 1}})


def test_learned_frequencies_start_as_the_random_ones() -> None:
    real = torch.randn(20, 7, generator=seeded())
    network = FrequencyNetwork(7, 2.0, seeded(1))
    random, learned = (draw_frequencies(real, 50, 2.0, seeded(2), network=each) for each in (None, network))
    assert torch.equal(random, learned)
    task, teacher = with_one_teacher()
    first = [distilled(task, teacher, steps=1, frequencies_from=kind) for kind in ("random", "learned")]
    assert torch.equal(*first)
    later = {
        distilled(task, teacher, **{**options, "steps": 8}).sum().item()
        for options in (QUICK, LEARNED, {**LEARNED, "frequency_lr": 0.1})
    }
    assert len(later) == 3


def test_the_network_moves_no_coordinate_by_more_than_the_largest_scale() -> None:
    network = trained(FrequencyNetwork(7, 2.0, seeded(1)))
    nn.init.constant_(network.layers[-2].bias, 50.0)
    drawn = torch.randn(50, 7, generator=seeded())
    assert torch.allclose(network(drawn) - drawn, torch.tensor(2.0 / 7**0.5))


def test_one_learned_frequency_cannot_be_normalised() -> None:
    def check(**options: Any) -> None:
        Features(FeaturesConfig(features=FeaturesOptions(**options))).check(tiny_task(Features), None)

    with pytest.raises(ConfigError, match=r"normalised among themselves, so one is too few \(--features.frequencies\)"):
        check(frequencies=1, frequencies_from="learned")
    check(frequencies=1)
    check(frequencies=2, frequencies_from="learned")


def test_its_first_weights_leave_the_global_stream_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (next(FrequencyNetwork(7, 2.0, seeded(seed)).parameters()) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("amplitude", [0.5, 0.2])
def test_both_gradients_are_those_of_the_distance_written_out(amplitude: float) -> None:
    """One step: images get the gradient with frequencies fixed, the network that of the sum over classes."""
    task, teacher = with_one_teacher()
    options = FeaturesOptions.model_validate({**LEARNED, "amplitude": amplitude})
    pixels = task.data.train.images(torch.cat([torch.nonzero(task.data.train.labels == c)[:2, 0] for c in range(10)]))
    first = DistilledSet(pixels, torch.arange(10).repeat_interleave(2))
    images = teacher.normalise(pixels).requires_grad_()
    with torch.no_grad():
        dimensions = Embedding(teacher)(images[:1]).shape[1]
    network = trained(FrequencyNetwork(dimensions, 2.0, seeded()))
    matching = Matching(task, options, [Embedding(teacher)], teacher, pixels, first, network)
    matching.differentiate(images, 0)
    total = matching.differentiate(images, 0)  # again: nothing of the step before is left

    exact, x = copy.deepcopy(network).double(), images.detach().double().requires_grad_()
    distances = [_naive(task, teacher, exact, x[2 * c : 2 * c + 2], c, amplitude, fixed=False) for c in range(10)]
    ascent = torch.autograd.grad(torch.stack(distances).sum(), list(exact.parameters()))
    fixed = [_naive(task, teacher, exact, x[2 * c : 2 * c + 2], c, amplitude, fixed=True) for c in range(10)]
    (descent,) = torch.autograd.grad(torch.stack(fixed).sum(), x)
    assert float(total) == pytest.approx(float(torch.stack(fixed).sum().detach()), rel=1e-3)
    assert images.grad is not None
    assert _close(images.grad, descent)
    for weight, wanted in zip(network.parameters(), ascent, strict=True):
        assert weight.grad is not None
        assert wanted.abs().max() > 0
        assert _close(weight.grad, wanted)


def _close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found.double() - wanted).abs().max() < 1e-2 * wanted.abs().max())


def _naive(
    task: Task, teacher: Normalised, network: FrequencyNetwork, x: Tensor, label: int, amplitude: float, *, fixed: bool
) -> Tensor:
    model, split = copy.deepcopy(teacher).double(), task.data.train
    members = torch.nonzero(split.labels == label).flatten()
    generator = task.seeds.generator("features", "real", 0, label)
    real = split.images(members[torch.randperm(len(members), generator=generator)[:6]]).double()
    seed, strategy = task.seeds.derive("features", "augment", 0, label), FeaturesOptions().strategy
    mine, theirs = (
        model.network.stages(model.network.stem(siamese_augment(each, strategy, seed=seed))).mean((2, 3))
        for each in (x, model.normalise(real))
    )
    theirs = theirs.detach()
    generator = task.seeds.generator("features", "frequencies", 0, label)
    size = theirs.shape[1]
    scales = torch.rand(5, 1, generator=generator)  # drawn before the directions
    noise = (scales * torch.randn(5, size, generator=generator)).double()
    hidden = noise
    for place in (0, 3, 6):
        linear, norm = network.layers[place], network.layers[place + 1]
        hidden = hidden @ linear.weight.T
        spread = ((hidden - hidden.mean(0)).square().mean(0) + 1e-5).sqrt()
        hidden = (hidden - hidden.mean(0)) / spread * norm.weight + norm.bias
        hidden = torch.tanh(hidden) if place == 6 else torch.where(hidden > 0, hidden, 0.2 * hidden)
    deviation = (theirs - theirs.mean(0)).square().mean(0).sqrt().clamp(min=1e-3)
    t = 2.0 * (noise + hidden) / size**0.5 / deviation
    t = t.detach() if fixed else t
    ours, wanted = (torch.exp(1j * (part @ t.T)).mean(0) for part in (mine, theirs))
    radial = (ours.abs() - wanted.abs()).square()
    angular = 2 * ours.abs() * wanted.abs() * (1 - torch.cos(ours.angle() - wanted.angle()))
    return (2 * amplitude * radial + 2 * (1 - amplitude) * angular).mean()


def test_the_network_climbs_while_the_images_descend(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one step: Adam's first step is the sign, up the gradient where images go down theirs."""
    made: list[FrequencyNetwork] = []

    def making(*arguments: Any) -> FrequencyNetwork:
        made.append(FrequencyNetwork(*arguments))
        return made[-1]

    monkeypatch.setattr(method_module, "FrequencyNetwork", making)
    task, teacher = with_one_teacher()
    distilled(task, teacher, steps=1, frequencies_from="learned", frequency_lr=0.125)
    bias = made[0].layers[-2].bias
    assert bias.grad is not None
    clear = bias.grad.abs() > 1e-3 * bias.grad.abs().max()
    assert clear.float().mean() > 0.5
    assert torch.allclose(bias[clear], 0.125 * bias.grad[clear].sign(), rtol=1e-3)


def test_the_ascent_finds_a_difference_that_random_frequencies_hardly_see() -> None:
    """One of 32 features has two values in the real images, and their mean in the others."""
    real = torch.randn(200, 32, generator=seeded())
    mine = real[:50].clone()
    real[:, 0], mine[:, 0] = torch.tensor([-1.0, 1.0]).repeat(100), 0.0
    network = FrequencyNetwork(32, 2.0, seeded(1))
    ascent = torch.optim.Adam(network.parameters(), lr=0.001, maximize=True)

    def distance(seed: int) -> Tensor:
        return characteristic_distance(mine, real, draw_frequencies(real, 64, 2.0, seeded(seed), network=network))

    before = float(distance(1000).detach())
    for step in range(150):
        ascent.zero_grad()
        distance(step).backward()
        ascent.step()
    assert float(distance(1000).detach()) > 3 * before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frequency_lr": 0.01}, "only --features.frequencies-from learned trains a network"),
        ({"distance": "mean", "frequencies_from": "learned"}, "--features.distance characteristic has frequencies"),
        ({"distance": "mean", "frequency_lr": 0.01}, "--features.distance characteristic has frequencies"),
    ],
)
def test_options_that_would_do_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(method="features", features=given)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--features.frequency-lr: Input should be greater than 0"):
        configure(method="features", features={"frequencies_from": "learned", "frequency_lr": 0})
