"""The gate item on the paper's bound: what curvature promises against what an attack achieves."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from guard_plugins.attacks.pgd import PGD
from guard_plugins.evaluation.curvature import measure_curvature
from guard_plugins.evaluation.gate.item import Item, judged, over_255, points
from guard_plugins.evaluation.gate.subject import Subject
from guard_plugins.runtime.eval_mode import borrowed, device_of


def loss_rise_within_bound(subject: Subject, *, h: float, images: int = 64, tolerance: float = 0.05) -> Item:
    """Compare the loss's rise under PGD with the bound ‖g‖ε + ½|λ|ε² at the perturbation's own L2 length.

    The bound is that of a second-order expansion, so a warning says that curvature at the image does not describe the
    loss as far as the attack reaches, not that the numbers are wrong.

    Args:
        subject: What is examined.
        h: L2 length of the training's step, in pixel units.
        images: How many images to measure; Hessians are costly.
        tolerance: Share of images that may rise above the bound.
    """
    x, y = subject.images[:images], subject.labels[:images]
    measured = measure_curvature(
        subject.model, x, y, h=h, batch_size=min(images, subject.batch_size), seeds=subject.seeds
    )
    rise, length = _attacked(subject, x, y)
    bound = measured.bound(length)
    above = float((rise > 1.01 * bound + 1e-6).float().mean())
    used = float((rise / bound.clamp_min(1e-12)).median())
    return judged(
        "loss rise within ‖g‖ε + ½|λ|ε²",
        good=above <= max(tolerance, 1.5 / len(x)),
        figure=f"{points(above)} % of {len(x)} images rise above it at {over_255(subject.eps)}; median rise "
        f"{used:.2g} of the bound, |λ|max median {float(measured.eigenvalue.median()):.3g}",
        value=above,
        suggests="the loss bends more on the way than at the image: curvature there does not explain robustness at "
        "this radius (a ReLU network's Hessian misses its kinks)",
        otherwise="warning",
    )


def _attacked(subject: Subject, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss's rise under PGD and the L2 length of each perturbation, shape (B,), on the CPU."""
    device = device_of(subject.model)
    x, y = images.to(device), labels.to(device)
    generator = subject.seeds.generator("bound", device=device)
    with borrowed(subject.model), torch.no_grad():
        attack = PGD(steps=subject.steps)
        adversarial = attack.perturb(subject.model, x, y, eps=subject.eps, generator=generator)
        here, there = (F.cross_entropy(subject.model(at), y, reduction="none") for at in (x, adversarial))
    return (there - here).cpu(), (adversarial - x).flatten(1).norm(dim=1).cpu()
