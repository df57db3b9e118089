"""The curvature hook around a plain PyTorch loop: one line, ``@hook``.

Run: ``python examples/hook_plain.py``
"""

from __future__ import annotations

import torch
from hook_digits import digits, network, report
from torch import nn
from torch.utils.data import DataLoader

from guard_plugins import CurvatureHook


def train(net: nn.Module, epochs: int) -> None:
    """Train as anybody would; nothing here knows of the hook."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    net.train()
    for _ in range(epochs):
        for x, y in DataLoader(digits()[0], batch_size=64, shuffle=True):
            optimizer.zero_grad()
            loss = criterion(net(x), y)
            loss.backward()
            optimizer.step()


def main(epochs: int = 8) -> dict[str, tuple[float, float]]:
    """Train once plainly and once under the hook, and compare."""
    plain = network()
    train(plain, epochs)

    hook = CurvatureHook(h=0.4)
    guarded = network()
    hook(train)(guarded, epochs)  # the one line; or `with hook:`, or @hook above train

    print(hook.summary())
    return {"plain": report("plain", plain), "guarded": report("with the hook", guarded)}


if __name__ == "__main__":
    main()
