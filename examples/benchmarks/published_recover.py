"""SRe2L's recovery written down straight from its description: one image per class at a time, loops where it loops."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms

from guard_plugins.networks.normalised import Normalised


class _Feature:
    """Keeps the statistics loss of one layer's last forward pass."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        self.loss = torch.zeros(())
        self.handle = layer.register_forward_hook(self._hook)

    def _hook(self, layer: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        u = inputs[0]
        channels = u.shape[1]
        mean = u.mean([0, 2, 3])
        variance = u.permute(1, 0, 2, 3).contiguous().reshape(channels, -1).var(1, unbiased=False)
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.running_var is not None
        assert layer.running_mean is not None
        self.loss = torch.norm(layer.running_var - variance, 2) + torch.norm(layer.running_mean - mean, 2)


def published_recover(
    teacher: Normalised, *, classes: int, ipc: int, side: int, iterations: int, lr: float, r_bn: float, jitter: int
) -> Tensor:
    """Return ``ipc`` images of every class, in normalised space, one batch of ``classes`` images after another."""
    device = teacher.mean.device
    augment = transforms.Compose(
        [transforms.RandomResizedCrop(side, antialias=True), transforms.RandomHorizontalFlip()]
    )
    finished = []
    for _ in range(ipc):
        features = [_Feature(layer) for layer in teacher.modules() if isinstance(layer, nn.BatchNorm2d)]
        targets = torch.arange(classes, device=device)
        x = torch.randn((classes, 3, side, side), device=device, requires_grad=True)
        optimizer = torch.optim.Adam([x], lr=lr, betas=(0.5, 0.9), eps=1e-8)
        best = x.data.clone()
        for step in range(iterations):
            rate = lr / 2 * (1 + torch.cos(torch.tensor(torch.pi * step / iterations)))
            for group in optimizer.param_groups:
                group["lr"] = float(rate)
            shift_1, shift_2 = (int(torch.randint(0, jitter + 1, ())) for _ in range(2))
            view = torch.roll(augment(x), shifts=(shift_1, shift_2), dims=(2, 3))
            optimizer.zero_grad()
            classification = F.cross_entropy(teacher.network(view), targets)
            weights = [10.0] + [1.0] * (len(features) - 1)
            matching = sum(weight * feature.loss for weight, feature in zip(weights, features, strict=True))
            loss = classification + r_bn * matching
            loss.backward()
            optimizer.step()
            _clip(x, teacher)
            best = x.data.clone()
        for feature in features:
            feature.handle.remove()
        finished.append(best)
    return torch.cat(finished)


def _clip(x: Tensor, teacher: Normalised) -> None:
    for channel in range(3):
        mean, std = teacher.mean[0, channel, 0, 0], teacher.std[0, channel, 0, 0]
        x.data[:, channel] = torch.clamp(x.data[:, channel], -mean / std, (1 - mean) / std)
