"""The objectives of teachers: plain cross-entropy, and the methods of robust training the hook is compared with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.config import TeacherConfig
from guard_plugins.config.schema import RIVAL_WEIGHTS
from guard_plugins.training.parts import ALL, Rows

Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From a model in train mode, images in [0, 1] and labels to the loss, a scalar."""


def objective(settings: TeacherConfig, rows: Rows = ALL) -> Objective:
    """Return the objective called ``settings.training``; its mean over processes that have ``rows`` is the batch's."""
    eps, steps, weight = settings.eps, settings.attack_steps, settings.rival_weight
    if weight is None:
        weight = RIVAL_WEIGHTS.get(settings.training, 0.0)
    objectives: dict[str, Objective] = {
        "plain": lambda model, x, y: plain(model, x, y, smoothing=settings.label_smoothing, rows=rows),
        "fgsm-rs": lambda model, x, y: fgsm_rs(model, x, y, eps=eps, rows=rows),
        "pgd": lambda model, x, y: pgd(model, x, y, eps=eps, steps=steps, rows=rows),
        "trades": lambda model, x, y: trades(model, x, y, eps=eps, steps=steps, beta=weight, rows=rows),
        "gradient-norm": lambda model, x, y: gradient_norm(model, x, y, weight=weight, rows=rows),
    }
    return objectives[settings.training]


def plain(model: nn.Module, images: Tensor, labels: Tensor, *, smoothing: float = 0.0, rows: Rows = ALL) -> Tensor:
    """Return the cross-entropy.

    Args:
        model: From images in [0, 1] to logits.
        images: Shape (B, C, H, W).
        labels: Int64 of shape (B,).
        smoothing: Share of each label that is spread over all classes.
        rows: Which images of the batch these are.
    """
    return rows.scaled(F.cross_entropy(model(images), labels, label_smoothing=smoothing))


def fgsm_rs(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, rows: Rows = ALL) -> Tensor:
    """Return the cross-entropy after one signed step from a random start (Wong, Rice & Kolter, ICLR 2020).

    The step is 1.25 eps long and projected to the L∞ ball and to [0, 1].

    Args:
        model: From images in [0, 1] to logits.
        images: Shape (B, C, H, W).
        labels: Int64 of shape (B,).
        eps: Radius of the ball in pixel units.
        rows: As for :func:`plain`.
    """
    start = _random_start(images, eps, rows)
    gradient = _input_gradient(lambda x: plain(model, x, labels, rows=rows), start)
    return plain(model, _project(start + 1.25 * eps * gradient.sign(), images, eps), labels, rows=rows)


def pgd(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int, rows: Rows = ALL) -> Tensor:
    """Return the cross-entropy on adversarial images of PGD with steps of 2.5 eps / steps (Madry et al., ICLR 2018).

    Args:
        model: From images in [0, 1] to logits.
        images: Shape (B, C, H, W).
        labels: Int64 of shape (B,).
        eps: Radius of the L∞ ball in pixel units.
        steps: Steps of PGD.
        rows: As for :func:`plain`.
    """
    x = _random_start(images, eps, rows)
    for _ in range(steps):
        gradient = _input_gradient(lambda x: plain(model, x, labels, rows=rows), x)
        x = _project(x + 2.5 * eps / steps * gradient.sign(), images, eps)
    return plain(model, x, labels, rows=rows)


def trades(
    model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int, beta: float, rows: Rows = ALL
) -> Tensor:
    """Return CE(x) + beta KL(p(x) || p(x')), where x' maximises the KL in eval mode (TRADES, Zhang et al., ICML 2019).

    Args:
        model: From images in [0, 1] to logits.
        images: Shape (B, C, H, W).
        labels: Int64 of shape (B,).
        eps: Radius of the L∞ ball in pixel units.
        steps: Steps of the maximisation, each 2.5 eps / steps long.
        beta: Weight of the second term.
        rows: As for :func:`plain`.
    """
    training = model.training
    model.eval()
    with torch.no_grad():
        clean = F.softmax(model(images), dim=1)
    x = (images + 1e-3 * _drawn(images, rows, Tensor.normal_)).clamp(0, 1)
    for _ in range(steps):
        gradient = _input_gradient(lambda x: F.kl_div(F.log_softmax(model(x), 1), clean, reduction="sum"), x)
        x = _project(x + 2.5 * eps / steps * gradient.sign(), images, eps)
    model.train(training)
    logits = model(images)
    divergence = F.kl_div(F.log_softmax(model(x), 1), F.softmax(logits, 1), reduction="batchmean")
    return rows.scaled(F.cross_entropy(logits, labels) + beta * divergence)


def gradient_norm(model: nn.Module, images: Tensor, labels: Tensor, *, weight: float, rows: Rows = ALL) -> Tensor:
    """Return CE + weight · mean_i ‖∇_{x_i} ℓ_i‖₂, by double backward (input-gradient regularisation).

    Args:
        model: From images in [0, 1] to logits.
        images: Shape (B, C, H, W).
        labels: Int64 of shape (B,).
        weight: Weight of the second term.
        rows: As for :func:`plain`.
    """
    x = images.detach().requires_grad_()
    losses = F.cross_entropy(model(x), labels, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return rows.scaled(losses.mean() + weight * norms.mean())


def _drawn(images: Tensor, rows: Rows, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """Return random numbers for the images, drawn for the whole batch."""
    if rows.of == 1:
        return draw(torch.empty_like(images))
    return rows.take(draw(images.new_empty((rows.total, *images.shape[1:]))))


def _random_start(images: Tensor, eps: float, rows: Rows) -> Tensor:
    return (images + _drawn(images, rows, lambda noise: noise.uniform_(-eps, eps))).clamp(0, 1)


def _input_gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    return gradient


def _project(x: Tensor, images: Tensor, eps: float) -> Tensor:
    return torch.minimum(torch.maximum(x, images - eps), images + eps).clamp(0, 1).detach()
