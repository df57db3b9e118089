"""The curvature hook around Hugging Face's Trainer with a small vision transformer.

Run: ``python examples/hook_transformers.py``  (needs ``pip install transformers accelerate``)
"""

from __future__ import annotations

import tempfile

import torch
from hook_digits import digits, report
from torch import nn
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from guard_plugins import CurvatureHook


def model() -> nn.Module:
    """Return a freshly seeded ViT for 8×8 images."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=8, patch_size=2,
        num_channels=1, num_labels=10, hidden_dropout_prob=0.0,
    )  # fmt: skip
    return ViTForImageClassification(config)


def trainer(net: nn.Module, epochs: int, folder: str) -> Trainer:
    """Return an ordinary Trainer; nothing here knows of the hook."""
    rows = [{"pixel_values": x, "labels": y} for x, y in digits()[0]]
    arguments = TrainingArguments(
        output_dir=folder, per_device_train_batch_size=64, num_train_epochs=epochs, learning_rate=3e-3, use_cpu=True,
        save_strategy="no", report_to=[], disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    return Trainer(model=net, args=arguments, train_dataset=rows)


def main(epochs: int = 10) -> dict[str, tuple[float, float]]:
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
