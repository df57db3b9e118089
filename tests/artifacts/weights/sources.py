"""Networks of other code bases: the names, shapes and forward passes that their checkpoints come from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10


class FlatConvNet(nn.Module):
    """The ConvNet of dataset condensation: one flat list of layers, four per block."""

    def __init__(self, depth: int = 3, width: int = 128, side: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block in range(depth):
            layers.append(nn.Conv2d(3 if block == 0 else width, width, 3, padding=1))
            layers.append(nn.GroupNorm(width, width, affine=True))
            layers.append(nn.ReLU(inplace=True))
            layers.append(nn.AvgPool2d(kernel_size=2, stride=2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * (side >> depth) ** 2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class CifarBlock(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class CifarResNet18(nn.Module):
    """The ResNet-18 of pytorch-cifar, and of what grew from it: ``shortcut`` and ``linear``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for number, (width, stride) in enumerate(((64, 1), (128, 2), (256, 2), (512, 2)), start=1):
            layer = nn.Sequential(CifarBlock(before, width, stride), CifarBlock(width, width, 1))
            setattr(self, f"layer{number}", layer)
            before = width
        self.linear = nn.Linear(512, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        for number in range(1, 5):
            out = getattr(self, f"layer{number}")(out)
        return self.linear(F.avg_pool2d(out, 4).flatten(1))


class Normalise(nn.Module):
    """A first layer that normalises, its buffers under the names given."""

    def __init__(self, mean: str = "mean", std: str = "std", scale: float = 1.0, shape: tuple[int, ...] = (3,)) -> None:
        super().__init__()
        self.names = (mean, std)
        self.register_buffer(mean, scale * torch.tensor([0.48, 0.45, 0.4]).view(shape))
        self.register_buffer(std, scale * torch.tensor([0.2, 0.25, 0.3]).view(shape))

    def forward(self, x: Tensor) -> Tensor:
        mean, std = (getattr(self, name).view(1, 3, 1, 1) for name in self.names)
        return (x - mean) / std


def shaken(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return the network in eval mode, every weight and statistic drawn anew, so that no two are alike."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if (tensor.is_floating_point() and not name.endswith(("mean", "std"))) or "running_mean" in name:
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(
                0.5 + noise if "var" in name or tensor.dim() == 1 else (noise - 0.5) / tensor[0].numel() ** 0.5
            )
    return network.eval()
