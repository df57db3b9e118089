"""Your network and your training loop, made robust by one line, become the teacher of a distillation run.

In this folder::

    python own_teacher.py
    guard-run --method sre2l --teacher mine.safetensors --teacher.network own_teacher.py:Net --output runs/mine
    guard-eval --distilled runs/mine --student.network convnet3
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from guard_plugins import CurvatureHook, evaluate, load_data, save_teacher


class Net(nn.Module):
    """A network of your own: pixels in [0, 1] in, logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 10) of images (B, 1, 8, 8)."""
        return self.classifier(self.features(images).mean((2, 3)))


hook = CurvatureHook(h_rms=16 / 255)


@hook  # the one line
def train(net: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Train as anybody would; nothing in here knows of the hook."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            loss = criterion(net(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()


def main(path: Path = Path("mine.safetensors"), epochs: int = 15) -> None:
    """Train, write the teacher, and attack it."""
    torch.manual_seed(0)
    data, net = load_data("digits"), Net()
    train(net, data.train.images(torch.arange(len(data.train))), data.train.labels, epochs)
    save_teacher(path, net, data, network="own_teacher.py:Net", hook=hook)
    found = evaluate(net, data, "pgd-20", eps=[8, 16], images=100)
    attacked = ", ".join(f"{100 * one.accuracy:.1f} % at {255 * one.eps:.0f}/255" for one in found.model.robust)
    print(f"{path}: clean {100 * found.model.clean:.1f} %, under PGD-20 {attacked}")


if __name__ == "__main__":
    main()
