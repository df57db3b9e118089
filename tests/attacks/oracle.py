"""Models whose robustness is known: a linear one exactly, a digits network by training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Module):
    """Logits W·x + b; the distance of x to class k's half-space is margin / dual norm of (w_k − w_y)."""

    def __init__(self, *, classes: int, shape: tuple[int, int, int], seed: int, scale: float = 3.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(shape[0] * shape[1] * shape[2], classes)
        with torch.no_grad():
            self.layer.weight.normal_(0, scale / self.layer.in_features**0.5)
            self.layer.bias.zero_()
            self.layer.bias -= self.layer.weight.sum(1) / 2  # balanced at grey

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))

    def distances(self, images: Tensor, labels: Tensor, *, norm: str) -> Tensor:
        """Return the exact minimal distance of every image to another class, ignoring [0, 1]."""
        logits, weight = self(images).detach(), self.layer.weight.detach()
        difference = weight[None] - weight[labels][:, None]
        dual = difference.abs().sum(-1) if norm == "Linf" else difference.norm(dim=-1)
        gap = logits.gather(1, labels[:, None]) - logits
        away = torch.where(dual > 0, gap / dual.clamp_min(1e-30), torch.inf)
        return away.amin(1)


def inner_images(count: int, shape: tuple[int, int, int], *, seed: int) -> Tensor:
    """Return images around grey, far from 0 and 1, so that the box never binds."""
    generator = torch.Generator().manual_seed(seed)
    return 0.35 + 0.3 * torch.rand(count, *shape, generator=generator)


def train_digits(
    images: Tensor, labels: Tensor, *, seed: int = 0, epochs: int = 6, h: float = 0.0, train: int = 1300
) -> nn.Module:
    """Train a small network on 1,300 digits in a second; ``h`` > 0 trains on steps of length h along the gradient."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for index in torch.randperm(train, generator=generator).split(65):
            x, y = images[index], labels[index]
            if h:
                leaf = x.clone().requires_grad_()
                (grad,) = torch.autograd.grad(F.cross_entropy(net(leaf), y), leaf)
                x = x + h * grad / (grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-12)
            optimiser.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimiser.step()
    return net.eval()
