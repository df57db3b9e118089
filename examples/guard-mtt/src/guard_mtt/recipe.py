"""The recipe of MTT's students."""

from __future__ import annotations

from guard_plugins.training.recipes import Recipe, StudentRecipe


class MTTStudents(StudentRecipe):
    """MTT's evaluation: SGD with momentum at the rate that was learned with the images, a tenth of it after half way.

    The published code also draws a Siamese augmentation for every batch. The temperature is 1: labels are meant as
    they are.
    """

    name = "mtt"
    summary = "the evaluation of MTT (arXiv 2203.11932)"
    recipe = Recipe(
        epochs=1000, batch_size=256, optimizer="sgd", lr=0.01, weight_decay=5e-4, schedule="step", temperature=1.0,
        augment="none",
    )  # fmt: skip
