"""The curvature hook around Hugging Face's Trainer with one of its vision models: the loss is computed inside it.

Run: ``python examples/hook_transformers.py``  (needs ``pip install transformers accelerate``)
"""

from __future__ import annotations

import tempfile

import torch
from hook_digits import digits, report
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

from guard_plugins import CurvatureHook


def model() -> nn.Module:
    """Return a freshly seeded two-stage ResNet for 8×8 images."""
    torch.manual_seed(0)
    config = ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[32, 64], depths=[1, 1], layer_type="basic", num_labels=10
    )
    return ResNetForImageClassification(config)


def trainer(net: nn.Module, epochs: int, folder: str) -> Trainer:
    """Return an ordinary Trainer; nothing here knows of the hook."""
    rows = [{"pixel_values": x, "labels": y} for x, y in digits()[0]]
    arguments = TrainingArguments(
        output_dir=folder, per_device_train_batch_size=32, num_train_epochs=epochs, learning_rate=5e-3, use_cpu=True,
        save_strategy="no", report_to=[], disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    return Trainer(model=net, args=arguments, train_dataset=rows)


def main(epochs: int = 8) -> dict[str, tuple[float, float]]:
    """Train once plainly and once under the hook, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        plain = model()
        trainer(plain, epochs, folder).train()

        hook = CurvatureHook(h=0.4)
        guarded = model()
        with hook:  # the one line
            trainer(guarded, epochs, folder).train()

    print(hook.summary())
    return {"plain": report("plain", plain), "guarded": report("with the hook", guarded)}


if __name__ == "__main__":
    main()
