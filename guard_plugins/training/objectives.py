"""What a teacher minimises on a batch: plain cross-entropy, or one of the rivals of the curvature hook."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.config import TeacherConfig
from guard_plugins.config.schema import RIVAL_WEIGHTS

Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From (model in train mode, images in [0, 1], labels) to the scalar to differentiate."""


def objective(settings: TeacherConfig) -> Objective:
    """Return the objective called ``settings.training``."""
    eps, steps, weight = settings.eps, settings.attack_steps, settings.rival_weight
    if weight is None:
        weight = RIVAL_WEIGHTS.get(settings.training, 0.0)
    objectives: dict[str, Objective] = {
        "plain": plain,
        "fgsm-rs": lambda model, x, y: fgsm_rs(model, x, y, eps=eps),
        "pgd": lambda model, x, y: pgd(model, x, y, eps=eps, steps=steps),
        "trades": lambda model, x, y: trades(model, x, y, eps=eps, steps=steps, beta=weight),
        "gradient-norm": lambda model, x, y: gradient_norm(model, x, y, weight=weight),
    }
    return objectives[settings.training]


def plain(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy."""
    return F.cross_entropy(model(images), labels)


def fgsm_rs(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    """Return the cross-entropy after one signed step from a random start (Wong, Rice & Kolter, ICLR 2020).

    Step size 1.25 eps, projected to the L∞ ball of radius ``eps`` and to [0, 1].
    """
    start = _random_start(images, eps)
    gradient = _input_gradient(lambda x: F.cross_entropy(model(x), labels), start)
    return F.cross_entropy(model(_project(start + 1.25 * eps * gradient.sign(), images, eps)), labels)


def pgd(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int) -> Tensor:
    """Return the cross-entropy at a PGD adversary of step 2.5 eps / steps (Madry et al., ICLR 2018)."""
    x = _random_start(images, eps)
    for _ in range(steps):
        gradient = _input_gradient(lambda x: F.cross_entropy(model(x), labels), x)
        x = _project(x + 2.5 * eps / steps * gradient.sign(), images, eps)
    return F.cross_entropy(model(x), labels)


def trades(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int, beta: float) -> Tensor:
    """Return CE(x) + beta KL(p(x) || p(x')) with x' maximising the KL in eval mode (Zhang et al., ICML 2019)."""
    training = model.training
    model.eval()
    with torch.no_grad():
        clean = F.softmax(model(images), dim=1)
    x = (images + 1e-3 * torch.randn_like(images)).clamp(0, 1)
    for _ in range(steps):
        gradient = _input_gradient(lambda x: F.kl_div(F.log_softmax(model(x), 1), clean, reduction="sum"), x)
        x = _project(x + 2.5 * eps / steps * gradient.sign(), images, eps)
    model.train(training)
    logits = model(images)
    divergence = F.kl_div(F.log_softmax(model(x), 1), F.softmax(logits, 1), reduction="batchmean")
    return F.cross_entropy(logits, labels) + beta * divergence


def gradient_norm(model: nn.Module, images: Tensor, labels: Tensor, *, weight: float) -> Tensor:
    """Return CE + weight · mean_i ‖∇_{x_i} ℓ_i‖₂, by double backward (input-gradient regularisation)."""
    x = images.detach().requires_grad_()
    losses = F.cross_entropy(model(x), labels, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return losses.mean() + weight * norms.mean()


def _random_start(images: Tensor, eps: float) -> Tensor:
    return (images + torch.empty_like(images).uniform_(-eps, eps)).clamp(0, 1)


def _input_gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    return gradient


def _project(x: Tensor, images: Tensor, eps: float) -> Tensor:
    return torch.minimum(torch.maximum(x, images - eps), images + eps).clamp(0, 1).detach()
