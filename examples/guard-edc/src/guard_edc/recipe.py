"""The recipe of EDC's students."""

from __future__ import annotations

from guard_plugins.training.recipes import Recipe, StudentRecipe


class EDCStudents(StudentRecipe):
    """EDC's command for CIFAR-10: small batches, AdamW, mean squared difference of the logits, a mean of the weights.

    The published code also draws two operations of RandAugment for every image, gives no weight decay to biases and
    norms, and takes the class of the unmixed image in the cross-entropy; ours is mixed like the image.
    """

    name = "edc"
    summary = "EDC's students on CIFAR-10 (arXiv 2404.13733)"
    recipe = Recipe(
        epochs=1000, batch_size=25, optimizer="adamw", lr=1e-3, weight_decay=0.01, schedule="late-steps", loss="mse",
        hard=0.025, ema=0.99, cutmix=1.0, augment="resized-crop-flip",
    )  # fmt: skip
