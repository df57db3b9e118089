"""The curvature hook around Lightning's Trainer, its measurements logged by a callback.

Run: ``python examples/hook_lightning.py``  (needs ``pip install lightning``)
"""

from __future__ import annotations

import logging
import warnings

import lightning
import torch
from hook_digits import digits, network, report
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from guard_plugins import CurvatureHook


class Classifier(lightning.LightningModule):
    """An ordinary LightningModule; nothing here knows of the hook."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss of one batch."""
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class LogCurvature(lightning.Callback):
    """Logs what the hook measured at each step."""

    def __init__(self, hook: CurvatureHook) -> None:
        self.hook = hook

    def on_train_batch_end(self, trainer, module, *rest) -> None:
        """Log the latest record."""
        module.log_dict(self.hook.last.scalars())


def trainer(epochs: int, *callbacks: lightning.Callback) -> lightning.Trainer:
    """Return a quiet trainer."""
    return lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip


def main(epochs: int = 8) -> dict[str, tuple[float, float]]:
    """Train once plainly and once under the hook, and compare."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    loader = DataLoader(digits()[0], batch_size=64, shuffle=True)
    plain = network()
    trainer(epochs).fit(Classifier(plain), loader)

    hook = CurvatureHook(h=0.4)
    guarded = network()
    with hook:  # the one line
        trainer(epochs, LogCurvature(hook)).fit(Classifier(guarded), loader)

    print(hook.summary())
    return {"plain": report("plain", plain), "guarded": report("with the hook", guarded)}


if __name__ == "__main__":
    main()
