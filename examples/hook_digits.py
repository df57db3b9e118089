"""What the hook examples share: scikit-learn's digits, a small network, and a report on clean and attacked accuracy."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Return 1,300 training and 497 test digits, pixels in [0, 1], shape (1, 8, 8)."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    y = torch.tensor(labels)
    return TensorDataset(x[:1300], y[:1300]), TensorDataset(x[1300:], y[1300:])


def network() -> nn.Module:
    """Return a freshly seeded two-convolution network."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )


def report(name: str, net: nn.Module) -> tuple[float, float]:
    """Print and return test accuracy, clean and under 20 steps of L∞ PGD with radius 16/255."""
    net.eval()
    x, y = digits()[1].tensors
    clean, attacked = _accuracy(net, x, y), _accuracy(net, _pgd(net, x, y, 16 / 255), y)
    print(f"{name:<14} clean {clean:6.1%}   PGD-20 at 16/255 {attacked:6.1%}")
    return clean, attacked


def _accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        out = net(x)
        logits = out if isinstance(out, Tensor) else out["logits"]
        return float((logits.argmax(1) == y).float().mean())


def _pgd(net: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    adversarial = x
    for _ in range(20):
        leaf = adversarial.detach().requires_grad_()
        out = net(leaf)
        logits = out if isinstance(out, Tensor) else out["logits"]
        (g,) = torch.autograd.grad(F.cross_entropy(logits, y), leaf)
        moved = adversarial + eps / 8 * g.sign()
        adversarial = (x + (moved - x).clamp(-eps, eps)).clamp(0, 1)
    return adversarial
