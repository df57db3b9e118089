"""The curvature hook around a Hugging Face Accelerate loop with gradient accumulation and bf16.

Run: ``python examples/hook_accelerate.py`` or ``accelerate launch examples/hook_accelerate.py``
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from hook_digits import digits, network, report
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from guard_plugins import CurvatureHook


def train(net: nn.Module, epochs: int) -> nn.Module:
    """Train with Accelerate; nothing here knows of the hook."""
    accelerator = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    loader = DataLoader(digits()[0], batch_size=32, shuffle=True)
    model, optimizer, loader = accelerator.prepare(net, optimizer, loader)
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(x), y)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
    return accelerator.unwrap_model(model, keep_fp32_wrapper=False).cpu()


def main(epochs: int = 8) -> dict[str, tuple[float, float]]:
    """Train once plainly and once under the hook, and compare."""
    plain = train(network(), epochs)

    hook = CurvatureHook(h=0.4)
    with hook:  # the one line
        guarded = train(network(), epochs)

    print(hook.summary())
    return {"plain": report("plain", plain), "guarded": report("with the hook", guarded)}


if __name__ == "__main__":
    main()
