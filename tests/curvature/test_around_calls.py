"""What loops do around a model call and around backward: noise in gradients, hooks for one call, containers to fill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from tests.curvature.worlds import Twin, as_written

GENERATOR = torch.Generator().manual_seed(5)
BATCHES = [
    (torch.randn(6, 16, generator=GENERATOR, dtype=torch.float64), torch.randint(0, 4, (6,), generator=GENERATOR))
    for _ in range(4)
]
CE = F.cross_entropy
H = 0.5
Loop = Callable[[Any, Any], None]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))


def trained(
    loop: Loop, build: Callable[[], nn.Module], loss_at: Any = None, hook: CurvatureHook | None = None
) -> Tensor:
    torch.manual_seed(1)
    np.random.seed(1)
    net = build().double()
    if hook is None:
        loop(net, loss_at)
    else:
        hook(loop)(net, as_written)
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def compare(loop: Loop, build: Callable[[], nn.Module] = mlp, *, weight: float = 1.0) -> None:
    """Assert that the weights trained under the hook are those of the twin, and not those of a plain loop."""
    ours = trained(loop, build, hook=CurvatureHook(h=H, weight=weight))
    assert torch.allclose(ours, trained(loop, build, Twin(h=H, weight=weight)), atol=1e-12)
    assert not torch.allclose(ours, trained(loop, build, as_written), atol=1e-4)


def steps(loss: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Loop:
    def loop(net: nn.Module, loss_at: Any) -> None:
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        for x, y in BATCHES:
            optimiser.zero_grad()
            loss_at(lambda x, y=y: loss(net, x, y), x).backward()
            optimiser.step()

    return loop


def plain(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return CE(net(x), y)


# --- gradients that draw -------------------------------------------------------------------------------------------


def by_torch(gradient: Tensor) -> Tensor:
    return gradient + 0.1 * torch.randn_like(gradient)


def by_numpy(gradient: Tensor) -> Tensor:
    return gradient + 0.1 * torch.from_numpy(np.random.randn(*gradient.shape))


@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("noise", [by_torch, by_numpy])
def test_noise_that_a_hook_adds_to_gradients_is_new_at_every_step(
    noise: Callable[[Tensor], Tensor], weight: float
) -> None:
    def loop(net: nn.Module, loss_at: Any) -> None:
        for p in net.parameters():
            p.register_hook(noise)
        steps(plain)(net, loss_at)

    compare(loop, weight=weight)


class Shaken(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 0.5

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * torch.rand(len(g), 1, dtype=g.dtype)


class Shakes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Tensor) -> Any:
        return self.net[2](Shaken.apply(self.net[1](self.net[0](x))))


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_what_backward_draws_moves_the_stream_as_in_the_loop(weight: float) -> None:
    ends = []
    for hook in (None, CurvatureHook(h=H, weight=weight)):
        trained(steps(plain), Shakes, as_written, hook)
        ends.append(torch.get_rng_state())
    assert torch.equal(*ends)
