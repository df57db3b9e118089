"""Which h for these data: the longest of a few steps along which the loss still tells one sample from another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature.objective.penalty import curvature, sample_norms, step_along
from guard_plugins.curvature.state.module_state import Attributes, Buffers
from guard_plugins.curvature.state.snapshots import RandomState, evaluation_mode
from guard_plugins.errors import ConfigError

_SHARES: Final = (0.08, 0.04, 0.02, 0.01, 0.005)  # of the median distance between two samples
_LIMIT: Final = 0.25  # of what a wrong sample costs
_BATCHES: Final = 4

LossFn = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What one length of z did.

    Attributes:
        h: L2 length of z.
        rise: ℓ̄(x + z) − ℓ̄(x).
        curvature: κ along z.
    """

    h: float
    rise: float
    curvature: float


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A length of z for some data, and how it was chosen.

    Attributes:
        h: L2 length of z.
        h_rms: The same per element.
        loss: Mean loss at the data.
        wrong: Mean loss where each sample stands in for another.
        gradient_norm: Mean over samples of the norm of their input gradients.
        distance: Median distance between two samples.
        probes: What was tried, longest first.
    """

    h: float
    h_rms: float
    loss: float
    wrong: float
    gradient_norm: float
    distance: float
    probes: tuple[Probe, ...]

    def __str__(self) -> str:
        chosen = next(probe for probe in self.probes if probe.h == self.h)
        bound = _LIMIT * (self.wrong - self.loss)
        fits = "at most" if chosen.rise <= bound else "more than"
        price = self.wrong - self.loss
        return (
            f"h = {self.h:.3g} (h_rms = {self.h_rms:.3g}): {self.h / self.distance:.1%} of the median distance "
            f"{self.distance:.3g} between two samples. Along z the mean loss {self.loss:.3g} rises by "
            f"{chosen.rise:.3g}, {fits} a quarter of the {price:.3g} that a wrong sample costs; it is the longest of "
            f"{len(self.probes)} lengths for which this holds, or the shortest tried. There ‖g‖ = "
            f"{self.gradient_norm:.3g} and κ = {chosen.curvature:.3g}. Measured in eval mode; ask again once the model "
            "is trained, since a trained model bends more."
        )


def suggest_h(
    model: Callable[[Tensor], Any], batches: Iterable[tuple[Tensor, Tensor]], loss_fn: LossFn = F.cross_entropy
) -> Suggestion:
    """Return a length of z for these data; see ``CurvatureHook.suggest_h``.

    Raises:
        ConfigError: If there are fewer than two samples, or the loss does not depend on them.
    """
    pairs = [batch for _, batch in zip(range(_BATCHES), batches, strict=False)]
    for batch in pairs:
        _require_pair(batch)
    data = [(x.detach(), y) for x, y in pairs]
    if sum(len(x) for x, _ in data) < 2 or any(not x.is_floating_point() for x, _ in data):
        raise ConfigError(
            "hook.suggest_h needs batches of float inputs with their targets",
            seen=f"{len(data)} batches with {sum(len(x) for x, _ in data)} samples",
            do="pass a few batches (x, y), at least two samples in all",
        )
    modules = [model] if isinstance(model, nn.Module) else []
    random, attributes, buffers = RandomState.save({x.device for x, _ in data}), Attributes(modules), Buffers(modules)
    try:
        with torch.enable_grad(), evaluation_mode(modules):
            return _measured(model, data, loss_fn)
    finally:
        for state in (random, attributes, buffers):
            state.restore()


def _require_pair(batch: object) -> None:
    if not (isinstance(batch, (tuple, list)) and len(batch) == 2 and isinstance(batch[0], Tensor)):
        raise ConfigError(
            "hook.suggest_h needs batches of float inputs with their targets",
            seen=f"a batch that is a {type(batch).__name__}, not a pair (x, y) with a tensor as x",
            do="pass pairs: [(batch['x'], batch['y']) for batch in loader] where batches are dicts",
        )


def _measured(model: Callable[[Tensor], Any], data: list[tuple[Tensor, Tensor]], loss_fn: LossFn) -> Suggestion:
    starts = [_start(model, x, y, loss_fn) for x, y in data]
    weights = [len(x) for x, _ in data]
    loss = _mean([float(s[0]) for s in starts], weights)
    slope = _mean([float(s[2].sum()) for s in starts], weights)
    if slope == 0:
        raise ConfigError(
            "hook.suggest_h needs a loss that depends on the inputs",
            seen="all input gradients are zero",
            do="pass the model and the loss_fn that are trained",
        )
    wrong = _mean([_loss(model, x.roll(1, 0), y, loss_fn) for x, y in data], weights)
    distance = _median_distance(torch.cat([x.flatten(1)[:64] for x, _ in data]))
    probes = []
    for h in (share * distance for share in _SHARES):
        ends = [
            _loss(model, x + step_along(g, n, h), y, loss_fn) for (x, y), (_, g, n) in zip(data, starts, strict=True)
        ]
        rise = _mean(ends, weights) - loss
        bend = float(curvature(torch.tensor(rise), torch.tensor(h * slope), h))
        probes.append(Probe(h=h, rise=rise, curvature=bend))
    fits = [probe.h for probe in probes if probe.rise <= _LIMIT * (wrong - loss)]
    h = fits[0] if fits else probes[-1].h
    elements = data[0][0][0].numel()
    return Suggestion(
        h=h, h_rms=h / elements**0.5, loss=loss, wrong=wrong, gradient_norm=slope, distance=distance,
        probes=tuple(probes),
    )  # fmt: skip


def _start(model: Callable[[Tensor], Any], x: Tensor, y: Tensor, loss_fn: LossFn) -> tuple[Tensor, Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    loss = loss_fn(model(leaf), y)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient, sample_norms(gradient)


def _loss(model: Callable[[Tensor], Any], x: Tensor, y: Tensor, loss_fn: LossFn) -> float:
    with torch.no_grad():
        return float(loss_fn(model(x), y))


def _mean(values: list[float], weights: list[int]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _median_distance(rows: Tensor) -> float:
    return float(torch.nn.functional.pdist(rows.float()).median())
