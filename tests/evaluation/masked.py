"""Models that look robust and are not, each for a reason the gate must name."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Confident(nn.Module):
    """Logits times 100: the softmax saturates and the cross-entropy has no gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = 100 * self.model(images)
        return logits


class Quantised(Confident):
    """Pixels rounded to 17 levels, the digits' own: no gradient passes."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model((images * 16).round() / 16)
        return logits


class Noisy(Confident):
    """Random noise added to the pixels at every call."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images + 0.1 * torch.randn_like(images))
        return logits


class Probabilities(Confident):
    """A softmax where the logits should be."""

    def forward(self, images: Tensor) -> Tensor:
        probabilities: Tensor = self.model(images).softmax(dim=1)
        return probabilities


class Purifying(Confident):
    """Takes a gradient step on its input before it answers."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = images.detach().requires_grad_()
            (grad,) = torch.autograd.grad(self.model(leaf).logsumexp(1).sum(), leaf)
        logits: Tensor = self.model(images + 0.01 * grad.sign())
        return logits


class Reversed(Confident):
    """The model's own logits, with a gradient of the opposite sign."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(2 * images.detach() - images)
        return logits


class Severed(Confident):
    """A forward pass that autograd does not see."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.model(images)
        return logits


class Constant(Confident):
    """The same class for every image."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.eye(10)[3].repeat(len(images), 1)
