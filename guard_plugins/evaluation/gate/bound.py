"""The gate item on the paper's bound: how far an attack raises the loss, against the bound from its curvature."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from guard_plugins.artifacts.formatting import percent, radius
from guard_plugins.artifacts.report import GateItem
from guard_plugins.attacks.pgd import PGD
from guard_plugins.evaluation.curvature import measure_curvature
from guard_plugins.evaluation.gate.item import judged
from guard_plugins.evaluation.gate.subject import Subject
from guard_plugins.networks.folded import folded
from guard_plugins.runtime.eval_mode import borrowed, device_of


def loss_rise_within_bound(subject: Subject, *, h: float, images: int = 64, tolerance: float = 0.05) -> GateItem:
    """Compare the loss's rise under PGD with the bound ‖g‖ε + ½|λ|ε² at the perturbation's own L2 length.

    The bound comes from a second-order expansion at the image. A warning means that the expansion does not hold as far
    out as the attack goes, not that the numbers are wrong.

    Args:
        subject: What is examined.
        h: L2 length of the step along the gradient in training, in pixel units.
        images: How many images to measure, since Hessians are costly.
        tolerance: Share of images that may rise above the bound.
    """
    x, y = subject.images[:images], subject.labels[:images]
    measured = measure_curvature(
        subject.model, x, y, h=h, batch_size=min(images, subject.batch_size), seeds=subject.seeds
    )
    rise, length = _attacked(subject, x, y)
    bound = measured.bound(length)
    above = float((rise > 1.01 * bound + 1e-6).float().mean())
    used = float((rise / bound.clamp_min(1e-12)).quantile(0.5))
    return judged(
        "loss rise within ‖g‖ε + ½|λ|ε²",
        good=above <= max(tolerance, 1.5 / len(x)),
        figure=f"at {radius(subject.eps)} PGD raises the loss above the bound on {percent(above)} % of {len(x)} "
        f"images{f', and on half of the images to {_times(used)} the bound or more' if used >= 1 else ''}",
        value=above,
        suggests="this far out, the curvature at the image does not explain how robust the model is. That is usual for "
        "ReLU networks, whose Hessian does not see their kinks; the accuracies stand",
        otherwise="warning",
    )


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.2g} times"


def _attacked(subject: Subject, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss's rise under PGD and the L2 length of each perturbation, shape (B,), on the CPU."""
    device = device_of(subject.model)
    x, y = images.to(device), labels.to(device)
    generator = subject.seeds.generator("bound", device=device)
    with borrowed(subject.model), torch.no_grad():
        attack = PGD(steps=subject.attack.steps)
        adversarial = attack.perturb(folded(subject.model), x, y, eps=subject.eps, generator=generator)
        here, there = (F.cross_entropy(subject.model(at), y, reduction="none") for at in (x, adversarial))
    return (there - here).cpu(), (adversarial - x).flatten(1).norm(dim=1).cpu()
