"""The training loops of real libraries under the hook, against the same loops with the objective written by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from guard_plugins.curvature import CurvatureHook
from tests.curvature.worlds import Twin, as_written, assert_same, batches, world

pytestmark = pytest.mark.slow

WEIGHTS = pytest.mark.parametrize("weight", [1.0, 2.0])


def _data() -> TensorDataset:
    pairs = batches(4)
    return TensorDataset(torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs]))


# -- Accelerate -------------------------------------------------------------------------------------------------------


def _accelerate(net: nn.Module, loss_at: Any, *, precision: str, accumulation: int) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision=precision, gradient_accumulation_steps=accumulation)
    opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    model, opt, loader = accelerator.prepare(net, opt, DataLoader(_data(), batch_size=8))
    for x, y in loader:
        with accelerator.accumulate(model):
            loss = loss_at(lambda x, y=y: F.cross_entropy(model(x), y), x)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            opt.zero_grad()
    accelerator.free_memory()
    accelerate.state.AcceleratorState._reset_state(True)


@WEIGHTS
@pytest.mark.parametrize(("precision", "accumulation"), [("no", 1), ("no", 2), ("bf16", 1)])
def test_accelerate(precision: str, accumulation: int, weight: float) -> None:
    ours, twin = world().net, world().net
    start = copy.deepcopy(ours.state_dict())
    hook = CurvatureHook(h=0.5, weight=weight)
    with hook:
        _accelerate(ours, as_written, precision=precision, accumulation=accumulation)
    _accelerate(twin, Twin(twin, h=0.5, weight=weight), precision=precision, accumulation=accumulation)
    # bf16: the twin adds two gradients in bf16, the hook in float32
    assert_same(ours, twin, start, tolerance=2e-6 if precision == "no" else 2e-2)
    assert hook.summary().regularised_steps == 4 // accumulation


# -- Lightning --------------------------------------------------------------------------------------------------------


def _lightning(net: nn.Module, loss_at: Any, folder: Path, **settings: Any) -> dict[str, Any]:
    lightning = pytest.importorskip("lightning")

    class Task(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Any:
            return self.net(x)

        def training_step(self, batch: Any, index: int) -> Tensor:
            x, y = batch
            loss = loss_at(lambda x: F.cross_entropy(self(x), y), x)
            self.log("train_loss", loss, on_epoch=True, on_step=True)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)

    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **settings,
    )  # fmt: skip
    trainer.fit(Task(), DataLoader(_data(), batch_size=8), DataLoader(_data(), batch_size=8))
    return dict(trainer.callback_metrics)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "settings", [{}, {"accumulate_grad_batches": 2, "gradient_clip_val": 1.0}, {"precision": "bf16-mixed"}]
)
@WEIGHTS
def test_lightning(settings: dict, weight: float, tmp_path: Path) -> None:
    ours, twin, plain = world().net, world().net, world().net
    start = copy.deepcopy(ours.state_dict())
    hook = CurvatureHook(h=0.5, weight=weight)
    with hook:
        logged = _lightning(ours, as_written, tmp_path, **settings)
    _lightning(twin, Twin(twin, h=0.5, weight=weight), tmp_path, **settings)
    _lightning(plain, as_written, tmp_path, **settings)
    # bf16: the twin adds two gradients in bf16, the hook in float32; with weight 2, most of both cancels
    tolerance = (4e-2 if weight == 2 else 2e-2) if "precision" in settings else 5e-6
    assert_same(ours, twin, start, tolerance=tolerance)
    with pytest.raises(AssertionError, match="differs by"):
        assert_same(plain, twin, start, tolerance=2 * tolerance)
    assert hook.summary().regularised_steps == 8 // settings.get("accumulate_grad_batches", 1)
    # the loop logs its own loss, not the objective
    assert float(logged["train_loss_epoch"]) < 2


# -- Hugging Face -----------------------------------------------------------------------------------------------------


def _hugging_face(loss_at: Any, folder: Path) -> tuple[nn.Module, dict[str, Tensor]]:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=6,
            patch_size=3, num_channels=1, num_labels=4,
        )
    )  # fmt: skip
    start = copy.deepcopy(model.state_dict())

    class Trainer(transformers.Trainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            y = inputs["labels"]
            return loss_at(
                lambda x: super(Trainer, self).compute_loss(model, {"pixel_values": x, "labels": y}),
                inputs["pixel_values"],
            )

    rows = [{"pixel_values": x, "labels": y} for x, y in _data()]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=8, num_train_epochs=2, learning_rate=1e-2, report_to=[],
        save_strategy="no", use_cpu=True, disable_tqdm=True, seed=0, logging_strategy="no",
    )  # fmt: skip
    kind = transformers.Trainer if loss_at is as_written else Trainer
    kind(model=model, args=arguments, train_dataset=rows).train()
    return model, start


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_trainer(tmp_path: Path) -> None:
    """Loss inside the model, keyword inputs, a ModelOutput, fused attention."""
    hook = CurvatureHook(h=0.5, weight=2.0)
    with hook:
        ours, start = _hugging_face(as_written, tmp_path)
    twin, _ = _hugging_face(Twin(h=0.5, weight=2.0), tmp_path)
    assert hook.summary().regularised_steps == 8
    # Adam divides by the gradient's size, which lifts rounding differences of tiny gradients
    assert_same(ours, twin, start, tolerance=2e-3)


# -- timm -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "efficientnet_b0"])
def test_timm_models(name: str) -> None:
    timm = pytest.importorskip("timm")

    def build() -> nn.Module:
        torch.manual_seed(0)
        size = {"img_size": 32, "patch_size": 8} if "vit" in name else {}
        return timm.create_model(name, num_classes=4, drop_path_rate=0.1, **size).double()

    # At 32 pixels the last stages would normalise over four values, and amplify every rounding.
    side = 96 if name == "efficientnet_b0" else 32

    def train(net: nn.Module, loss_at: Any) -> None:
        from timm.data import Mixup
        from timm.loss import SoftTargetCrossEntropy

        opt = torch.optim.SGD(net.parameters(), lr=0.001)
        mixup, criterion = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=4), SoftTargetCrossEntropy()
        g = torch.Generator().manual_seed(0)
        import numpy as np

        np.random.seed(0)
        for _ in range(2):
            x = torch.randn(4, 3, side, side, generator=g, dtype=torch.float64)
            x, y = mixup(x, torch.randint(0, 4, (4,), generator=g))
            y = y.double()
            opt.zero_grad()
            loss_at(lambda x, y=y: criterion(net(x), y), x).backward()
            opt.step()

    ours, twin = build(), build()
    start = copy.deepcopy(ours.state_dict())
    hook = CurvatureHook(h=0.5, weight=2.0)
    torch.manual_seed(1)
    with hook:
        train(ours, as_written)
    torch.manual_seed(1)
    train(twin, Twin(twin, h=0.5, weight=2.0))
    assert_same(ours, twin, start, tolerance=1e-8)
    assert hook.summary().regularised_steps == 2
