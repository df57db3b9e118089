"""DC written down straight from its description: gradients of all weights, copies, a loader, a number per batch."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from guard_plugins.runtime.task import Task


def published_dc(task: Task, *, network: str, iterations: int, outer: int, inner: int, real_batch: int) -> Tensor:
    """Return the distilled images after some outer iterations, in normalised space.

    Start, networks and real batches are those the plugin draws from the same seed, so that the two can be compared; the
    order of the images between two image steps is drawn by a loader, as published.
    """
    device, classes, ipc = task.device, task.classes, task.ipc
    everything = torch.arange(len(task.data.train))
    frame = task.network(network, stage="match/frame")
    real, labels = frame.normalise(task.data.train.images(everything).to(device)), task.data.train.labels
    by_class = [torch.nonzero(labels == label).flatten() for label in range(classes)]
    shape = (classes * ipc, *task.data.image_shape)
    start = torch.randn(shape, generator=task.seeds.generator("match", "start"))
    images = start.to(device).requires_grad_()
    targets = torch.arange(classes, device=device).repeat_interleave(ipc)
    optimizer = torch.optim.SGD([images], lr=0.1, momentum=0.5)
    criterion = nn.CrossEntropyLoss().to(device)
    for iteration in range(iterations):
        net = task.network(network, stage=f"match/{iteration}").network.train()
        weights = list(net.parameters())
        sgd = torch.optim.SGD(weights, lr=0.01)
        total = 0.0
        for step in range(outer):
            loss = torch.zeros((), device=device)
            for label in range(classes):
                generator = task.seeds.generator("match", "real", label, iteration, step)
                chosen = torch.randperm(len(by_class[label]), generator=generator)[:real_batch]
                x = real[by_class[label][chosen]]
                y = torch.full((len(x),), label, device=device)
                wanted = [g.detach().clone() for g in torch.autograd.grad(criterion(net(x), y), weights)]
                own = images[label * ipc : (label + 1) * ipc]
                own_loss = criterion(net(own), torch.full((ipc,), label, device=device))
                loss = loss + _distance(torch.autograd.grad(own_loss, weights, create_graph=True), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            if step == outer - 1:
                break
            copied = TensorDataset(copy.deepcopy(images.detach()), copy.deepcopy(targets.detach()))
            loader = DataLoader(copied, batch_size=256, shuffle=True, num_workers=0)
            for _ in range(inner):
                _epoch(net, loader, sgd, device)
    return images.detach()


def _distance(synthetic: tuple[Tensor, ...], real: list[Tensor]) -> Tensor:
    total = torch.zeros((), device=real[0].device)
    for s, r in zip(synthetic, real, strict=True):
        if r.dim() > 1:
            s, r = s.reshape(s.shape[0], -1), r.reshape(r.shape[0], -1)
            cosine = torch.sum(r * s, dim=-1) / (torch.norm(r, dim=-1) * torch.norm(s, dim=-1) + 1e-6)
            total = total + torch.sum(1 - cosine)
    return total


def _epoch(net: nn.Module, loader: DataLoader, sgd: torch.optim.Optimizer, device: torch.device) -> float:
    loss_sum, right, count = 0.0, 0, 0
    for images, labels in loader:
        images, labels = images.float().to(device), labels.long().to(device)
        output = net(images)
        loss = F.cross_entropy(output, labels)
        right += int(np.sum(np.equal(np.argmax(output.cpu().data.numpy(), axis=-1), labels.cpu().data.numpy())))
        loss_sum += loss.item() * len(labels)
        count += len(labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    return loss_sum / max(count, right)
