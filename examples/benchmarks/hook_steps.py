"""The ways to train that the hook benchmark compares, each as a function that makes a number of steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from guard_plugins.curvature import CurvatureHook

_EPS: Final = 8 / 255  # L∞ radius of the adversarial trainings; its size does not matter for their cost
_ATTACK_STEPS: Final = 10


@dataclass(frozen=True)
class Training:
    """A network in training on one batch.

    Attributes:
        net: The network.
        optimizer: Its optimiser.
        x: Images (B, 3, 32, 32).
        y: Classes (B,).
    """

    net: nn.Module
    optimizer: torch.optim.Optimizer
    x: Tensor
    y: Tensor

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean cross-entropy at ``x``."""
        return F.cross_entropy(self.net(x), self.y)

    def step(self, loss: Tensor) -> None:
        """Take one optimiser step on ``loss``."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


Steps = Callable[[Training, int], None]


def plain(t: Training, steps: int) -> None:
    """Train on the loss alone; also the loop every hook below wraps."""
    for _ in range(steps):
        t.step(t.loss(t.x))


def _hooked(make: Callable[[], CurvatureHook]) -> Steps:
    hooks: list[CurvatureHook] = []

    def train(t: Training, steps: int) -> None:
        hooks[:] = hooks or [make()]  # one hook for all rounds, as in one training
        with hooks[0]:
            plain(t, steps)

    return train


def _with_math_attention(train: Steps) -> Steps:
    """Return ``train`` without fused attention, which PyTorch cannot differentiate twice."""

    def run(t: Training, steps: int) -> None:
        with sdpa_kernel(SDPBackend.MATH):
            train(t, steps)

    return run


def published(t: Training, steps: int, h: float = 3.0, beta: float = 1.0) -> None:
    """Train as GUARD's published code does: four forward passes, three of them in eval mode, two backward passes."""
    for _ in range(steps):
        clean = t.loss(t.x)
        t.net.eval()
        x = t.x.clone().requires_grad_()
        t.loss(x).backward()
        assert x.grad is not None
        z = h * (x.grad + 1e-7) / (x.grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-7)
        t.net.zero_grad()
        term = (t.loss(t.x + z) - t.loss(t.x)).abs()
        t.net.train()
        t.step(clean + beta * term)


def fgsm_rs(t: Training, steps: int) -> None:
    """Train on single-step adversarial images from a random start (Wong et al., ICLR 2020)."""
    for _ in range(steps):
        delta = torch.empty_like(t.x).uniform_(-_EPS, _EPS).requires_grad_()
        (g,) = torch.autograd.grad(t.loss(t.x + delta), delta)
        delta = (delta.detach() + 1.25 * _EPS * g.sign()).clamp(-_EPS, _EPS)
        t.step(t.loss(t.x + delta))


def pgd_10(t: Training, steps: int) -> None:
    """Train on PGD-10 adversarial images (Madry et al., ICLR 2018)."""
    for _ in range(steps):
        x = t.x + torch.empty_like(t.x).uniform_(-_EPS, _EPS)
        for _ in range(_ATTACK_STEPS):
            x = x.requires_grad_()
            (g,) = torch.autograd.grad(t.loss(x), x)
            x = t.x + (x.detach() + _EPS / 4 * g.sign() - t.x).clamp(-_EPS, _EPS)
        t.step(t.loss(x))


VARIANTS: Final[dict[str, Steps]] = {
    "plain": plain,
    "hook, weight 1": _hooked(lambda: CurvatureHook(h=3.0)),
    "hook, weight 2": _hooked(lambda: CurvatureHook(h=3.0, weight=2.0)),
    "hook, every 4, weight 1": _hooked(lambda: CurvatureHook(h=3.0, every=4)),
    "hook, every 4, weight 4": _hooked(lambda: CurvatureHook(h=3.0, weight=4.0, every=4)),
    "published, four forwards": published,
    "hook, gradient (CURE)": _with_math_attention(_hooked(lambda: CurvatureHook(h=3.0, penalty="gradient"))),
    "FGSM-RS": fgsm_rs,
    "PGD-10": pgd_10,
}
"""Ways to train by the name the table shows."""
