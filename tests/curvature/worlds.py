"""Small networks, batches and the hand-written twin of the regularised objective the hook is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

LossAt = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]


def small_net(*, dropout: float = 0.0, channels: int = 1, classes: int = 4) -> nn.Module:
    """Return a two-layer BatchNorm network for 6×6 images."""
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(6 * 36, classes),
    )


def batches(
    count: int = 4, size: int = 8, *, channels: int = 1, classes: int = 4, seed: int = 7
) -> list[tuple[Tensor, Tensor]]:
    """Return labelled random images whose mean tells the class apart."""
    g = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        y = torch.randint(0, classes, (size,), generator=g)
        x = torch.randn(size, channels, 6, 6, generator=g) + y.view(-1, 1, 1, 1) * 0.7
        found.append((x, y))
    return found


@dataclass
class World:
    """What a training loop works with."""

    net: nn.Module
    data: list[tuple[Tensor, Tensor]] = field(default_factory=batches)

    def optimizer(self, lr: float = 0.05) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.net.parameters(), lr=lr, momentum=0.9)


def world(*, dropout: float = 0.0, build: Callable[[], nn.Module] | None = None, seed: int = 3) -> World:
    """Return a freshly seeded world; two calls give equal ones."""
    torch.manual_seed(seed)
    return World(build() if build else small_net(dropout=dropout))


def as_written(loss_at: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The loop as its author wrote it: the plain loss."""
    return loss_at(x)


class Twin:
    """The regularised objective written out by hand, with a kept graph and no shortcut."""

    def __init__(self, *modules: nn.Module, h: float = 0.5, weight: float = 1.0, penalty: str = "loss") -> None:
        self.modules, self.h, self.weight, self.penalty = modules, h, weight, penalty

    def __call__(self, loss_at: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        before = torch.get_rng_state()
        x = x.detach().requires_grad_()
        loss = loss_at(x)
        double = self.penalty == "gradient"
        (g,) = torch.autograd.grad(loss, x, retain_graph=True, create_graph=double)
        flat = g.detach().flatten(1)
        z = (self.h * flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-16)).view_as(g)
        buffers = [(b, b.clone()) for m in self.modules for b in m.buffers()]
        after = torch.get_rng_state()
        torch.set_rng_state(before)
        there = (x.detach() + z).requires_grad_(double)
        moved = loss_at(there)
        torch.set_rng_state(after)
        for buffer, saved in buffers:
            buffer.data.copy_(saved)
        if not double:
            return loss + self.weight * (moved - loss).abs()
        (g_there,) = torch.autograd.grad(moved, there, create_graph=True)
        return loss + self.weight * (g_there - g).flatten(1).norm(dim=1).sum()


def changes(net: nn.Module, start: dict[str, Tensor]) -> float:
    """Return the largest weight change since ``start``."""
    return max(
        float((v.detach().double() - start[k].double()).abs().max()) for k, v in net.named_parameters() if k in start
    )


def assert_same(ours: nn.Module, twin: nn.Module, start: dict[str, Tensor], *, tolerance: float = 1e-6) -> None:
    """Assert that weights and buffers agree to ``tolerance`` of the largest weight change, or to two roundings of their
    own size, and that the weights moved."""
    moved = changes(twin, start)
    assert moved > 1e-4, "the twin did not train"
    theirs = twin.state_dict()
    for name, value in ours.state_dict().items():
        gap = float((value.double() - theirs[name].double()).abs().max())
        rounding = torch.finfo(value.dtype).eps * float(value.double().abs().max()) if value.is_floating_point() else 0
        assert gap <= max(tolerance * moved, 2 * rounding), f"{name} differs by {gap:.3g} (largest change {moved:.3g})"
