"""Gate items that ask whether standard attacks apply to a model at all (RobustBench's conditions)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from guard_plugins.artifacts.report import GateItem
from guard_plugins.evaluation.gate.item import judged
from guard_plugins.evaluation.gate.subject import Subject
from guard_plugins.evaluation.predictions import logits_of
from guard_plugins.runtime.eval_mode import borrowed, device_of


def logits_are_deterministic(subject: Subject, *, passes: int = 5, tolerance: float = 1e-4) -> GateItem:
    """Check that the same images get the same logits every time, up to rounding.

    Args:
        subject: What is examined.
        passes: Number of forward passes.
        tolerance: Largest L2 distance of the logits from those of the first pass, relative to their L2 norm.
    """
    logits = torch.stack(_logits(subject, passes))
    unit = logits / logits.norm(dim=2, keepdim=True).clamp_min(1e-10)
    change = float((unit - unit[:1]).norm(dim=2).max())
    return judged(
        "deterministic logits",
        good=change <= tolerance,
        figure=f"over {passes} passes the logits change by at most {change:.1g} of their size",
        value=change,
        finding="the same images get other logits every time",
        suggests="the forward pass is random, and such a model looks too robust under standard attacks: average "
        "gradients over many passes (EOT)",
    )


def forward_does_not_optimise(subject: Subject) -> GateItem:
    """Check that the forward pass computes no gradients itself, as defences do that optimise while they predict."""
    with _Watch() as watch:
        _logits(subject, 1)
    return judged(
        "no optimisation inside the forward pass",
        good=not watch.calls,
        figure=f"one forward pass calls autograd {watch.calls} times",
        value=float(watch.calls),
        finding="the forward pass computes gradients itself",
        suggests="standard attacks do not work against an inner optimisation: an adaptive attack is needed",
    )


def outputs_are_logits(subject: Subject) -> GateItem:
    """Check that the model returns logits, not probabilities, whose gradients vanish."""
    (logits,) = _logits(subject, 1)
    total = (logits.sum(dim=1) - 1).abs().max()
    probable = bool(logits.min() >= -1e-5) and bool(logits.max() <= 1 + 1e-5) and bool(total <= 1e-5)
    return judged(
        "logits, not probabilities",
        good=not probable,
        figure=f"the outputs lie between {float(logits.min()):.3g} and {float(logits.max()):.3g}",
        finding="the model returns probabilities, not logits",
        suggests="every row sums to one: remove the softmax from the model before attacking it",
    )


def gradients_are_not_zero(subject: Subject, *, tolerance: float = 0.01, wrong: float = 0.25) -> GateItem:
    """Check that hardly any image has an input gradient of exactly zero, and that gradients are those of the loss.

    A gradient that a model writes itself may point anywhere. An honest one points uphill: the loss is larger a small
    step along it than a small step against it, as far as rounding lets one see that.

    Args:
        subject: What is examined.
        tolerance: Share of the images whose gradient may be zero.
        wrong: Share of the images, of those on which the step shows, on which it may point downhill.
    """
    zero = seen = downhill = 0
    with borrowed(subject.model):
        for x, y in zip(
            subject.images.split(subject.batch_size), subject.labels.split(subject.batch_size), strict=True
        ):
            found = _slopes(subject.model, x.to(device_of(subject.model)), y.to(device_of(subject.model)))
            zero, seen, downhill = (a + int(b.sum()) for a, b in zip((zero, seen, downhill), found, strict=True))
    count = len(subject.labels)
    rate, false = zero / count, downhill > max(wrong * seen, subject.spare + 0.5)
    blocked = rate > subject.slack(tolerance)
    figure = f"{zero} of {count} images have an input gradient of exactly zero"
    if blocked or not false:
        finding = f"no gradient reaches the pixels of {zero} of {count} images"
        suggests = (
            "a step that is not differentiable (such as quantisation) or a saturated softmax blocks the gradient: "
            "treat the step as the identity in the attack's backward pass; until then rely on Square and margin losses"
        )
    else:
        finding = f"the input gradient points downhill on {downhill} of {seen} images"
        figure += f"; the loss falls along it on {downhill} of the {seen} on which a small step shows"
        suggests = (
            "the model answers backward with something else than its own gradient, so attacks are led astray: look at "
            "custom backward passes, hooks and detach() in it; until then rely on Square"
        )
    return judged(
        "input gradients are not zero", good=not (blocked or false), figure=figure,
        value=rate if blocked or not false else downhill / seen, finding=finding, suggests=suggests,
    )  # fmt: skip


def _slopes(model: nn.Module, x: Tensor, y: Tensor, *, step: float = 0.5 / 255) -> tuple[Tensor, Tensor, Tensor]:
    """Return which images have no gradient, on which a step along it shows, and on which of these the loss falls.

    Args:
        model: The model, borrowed.
        x: Images, shape (B, C, H, W).
        y: True classes, shape (B,).
        step: Root mean square of the step over the pixels.
    """
    leaf = x.clone().requires_grad_()
    with torch.enable_grad():
        logits = model(leaf)
        loss = F.cross_entropy(logits, y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, leaf, allow_unused=True, materialize_grads=True)
    norm = grad.flatten(1).norm(dim=1)
    h = step * math.sqrt(x[0].numel())
    z = h * grad / norm.clamp_min(torch.finfo(grad.dtype).tiny).view(-1, 1, 1, 1)
    up, down = (F.cross_entropy(logits_of(model, x + side * z), y, reduction="none") for side in (1, -1))
    rounding = 1e-5 * (1 + logits.detach().abs().amax(dim=1))
    shows = torch.minimum(2 * h * norm, (up - down).abs()) > 10 * rounding
    return grad.flatten(1).abs().amax(dim=1) == 0, shows, shows & (up < down)


class _Watch(TorchFunctionMode):
    """Counts the calls that start a backward pass."""

    calls = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.calls += func in (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)
        return func(*args, **(kwargs or {}))


def _logits(subject: Subject, passes: int) -> list[torch.Tensor]:
    images = subject.images[: subject.batch_size].to(device_of(subject.model))
    # Opened once: leaving the block restores the random streams, and every pass of a random model would be the same.
    with borrowed(subject.model):
        return [logits_of(subject.model, images).cpu() for _ in range(passes)]
