"""Training scripts in the styles people write, run unmodified under the decorator.

Each regularises every step, and on held-out images ends with a smaller difference along z and a lower curvature than
the same script without the hook.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from guard_plugins.curvature import CurvatureHook

EPOCHS = 4
H = 2.0


class Net(nn.Module):
    """A small BatchNorm network with dropout, for 8×8 digits."""

    def __init__(self, *, log_probabilities: bool = False) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16)
        self.dropout, self.fc = nn.Dropout(0.1), nn.Linear(16 * 16, 10)
        self.log_probabilities = log_probabilities

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        x = self.fc(self.dropout(torch.flatten(x, 1)))
        return F.log_softmax(x, dim=1) if self.log_probabilities else x


def digits(*, train: bool) -> TensorDataset:
    images, labels = load_digits(return_X_y=True)
    x = (torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16 - 0.3) / 0.37
    y = torch.tensor(labels)
    return TensorDataset(x[:1200], y[:1200]) if train else TensorDataset(x[1200:], y[1200:])


def loader() -> DataLoader:
    return DataLoader(digits(train=True), batch_size=64, shuffle=True, drop_last=True)


Decorator = Callable[[Callable], Callable]


def example_script(decorate: Decorator) -> nn.Module:
    """Everything handed to ``train(args, model, device, train_loader, optimizer, epoch)``, testing after each epoch."""

    @decorate
    def train(args, model, device, train_loader, optimizer, epoch):
        model.train()
        for batch_idx, (data, target) in enumerate(train_loader):
            data, target = data.to(device), target.to(device)
            optimizer.zero_grad()
            output = model(data)
            loss = F.nll_loss(output, target)
            loss.backward()
            optimizer.step()
            if batch_idx % args.log_interval == 0:
                line = f"Train Epoch: {epoch} [{batch_idx * len(data)}/{len(train_loader.dataset)}] {loss.item():.6f}"
                assert "nan" not in line

    def test(model, device, test_loader):
        model.eval()
        test_loss, correct = 0.0, 0
        with torch.no_grad():
            for data, target in test_loader:
                output = model(data.to(device))
                test_loss += F.nll_loss(output, target, reduction="sum").item()
                correct += output.argmax(dim=1, keepdim=True).eq(target.view_as(output.argmax(1))[:, None]).sum().item()
        return test_loss / len(test_loader.dataset), correct

    args, device = argparse.Namespace(log_interval=5), torch.device("cpu")
    model = Net(log_probabilities=True).to(device)
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    for epoch in range(1, EPOCHS + 1):
        train(args, model, device, loader(), optimizer, epoch)
        test(model, device, DataLoader(digits(train=False), batch_size=200))
        scheduler.step()
    return model


def globals_script(decorate: Decorator) -> nn.Module:
    """``net``, ``criterion`` and ``optimizer`` are globals of the script; ``train(epoch)`` keeps running totals."""
    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

    @decorate
    def train(epoch):
        net.train()
        train_loss, correct, total = 0, 0, 0
        for inputs, targets in loader():
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = criterion(outputs, targets)
            loss.backward()
            optimizer.step()
            train_loss += loss.item()
            _, predicted = outputs.max(1)
            total += targets.size(0)
            correct += predicted.eq(targets).sum().item()
        return train_loss / total, 100.0 * correct / total

    for epoch in range(EPOCHS):
        train(epoch)
        scheduler.step()
    return net


def reference_script(decorate: Decorator) -> nn.Module:
    """A library's reference: label smoothing, GradScaler and autocast, clipping, an exponential moving average."""
    model = Net()
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    ema = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))

    @decorate
    def train_one_epoch(model, criterion, optimizer, data_loader, model_ema, scaler):
        model.train()
        for i, (image, target) in enumerate(data_loader):
            with torch.amp.autocast("cpu", dtype=torch.bfloat16, enabled=scaler is not None):
                output = model(image)
                loss = criterion(output, target)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            if i % 2 == 0:
                model_ema.update_parameters(model)
            top1 = (output.topk(1, 1)[1].flatten() == target).float().mean()
            assert 0 <= float(top1) <= 1

    for _ in range(EPOCHS):
        train_one_epoch(model, criterion, optimizer, loader(), ema, scaler)
        ema.eval()
        with torch.inference_mode():
            ema(digits(train=False).tensors[0])
    return model


def task_script(decorate: Decorator) -> nn.Module:
    """A task module that mixes its batch and computes its loss; the loop accumulates over two batches."""

    class Task(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, batch):
            x, y = batch["x"], batch["y"]
            if self.training:
                order, lam = torch.randperm(len(x)), float(torch.distributions.Beta(0.4, 0.4).sample())
                out = self.net(lam * x + (1 - lam) * x[order])
                loss = lam * F.cross_entropy(out, y) + (1 - lam) * F.cross_entropy(out, y[order])
            else:
                out = self.net(x)
                loss = F.cross_entropy(out, y)
            return {"loss": loss, "metrics": {"accuracy": (out.argmax(1) == y).float().mean()}}

    task = Task()
    optimizer = torch.optim.SGD(task.parameters(), lr=0.05, momentum=0.9)

    @decorate
    def fit(epochs):
        history = []
        for _ in range(epochs):
            task.train()
            for i, (x, y) in enumerate(loader()):
                result = task({"x": x, "y": y})
                (result["loss"] / 2).backward()
                if i % 2:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                history.append({"loss": result["loss"].detach(), **result["metrics"]})
        return history

    fit(2 * EPOCHS)
    return task.net


def layout_script(decorate: Decorator) -> nn.Module:
    """channels_last, warm-up and cosine per step, an infinite iterator, losses collected in a list."""
    model = Net().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    steps = EPOCHS * 18

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / steps))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def forever() -> Iterator:
        while True:
            yield from loader()

    @decorate
    def main():
        stream, losses = forever(), []
        for _ in range(steps):
            images, labels = next(stream)
            images = images.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad(set_to_none=True)
            logits = model(images)
            loss = F.cross_entropy(logits, labels, reduction="none").mean()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss)
        assert torch.stack([one.detach() for one in losses]).isfinite().all()

    main()
    return model


SCRIPTS = {
    "example": example_script,
    "globals": globals_script,
    "reference": reference_script,
    "task": task_script,
    "layout": layout_script,
}


def _measured(model: nn.Module) -> tuple[float, float]:
    """Return |Δℓ| and κ on held-out images."""
    model = copy.deepcopy(model).eval()
    probe = CurvatureHook(h=H)
    x, y = digits(train=False).tensors
    loss_fn = F.nll_loss if getattr(model, "log_probabilities", False) else F.cross_entropy
    probe.loss(model, x, lambda out: loss_fn(out, y))
    summary = probe.summary()
    return summary.mean_term, summary.mean_curvature


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_script_runs_unmodified_and_ends_flatter(name: str) -> None:
    torch.manual_seed(0)
    without = SCRIPTS[name](lambda function: function)
    torch.manual_seed(0)
    hook = CurvatureHook(h=H)
    with_hook = SCRIPTS[name](hook)
    summary = hook.summary()
    assert summary.steps == summary.regularised_steps >= 4 * 18 - 1
    (term, kappa), (term_without, kappa_without) = _measured(with_hook), _measured(without)
    assert term < 0.7 * term_without
    assert kappa < kappa_without
