"""Gate items that attack the model in further ways, to see whether the first ways told the truth."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from guard_plugins.attacks.adaptive import Adaptive
from guard_plugins.attacks.margin import DLRPGD, MarginPGD
from guard_plugins.attacks.noise import Noise
from guard_plugins.attacks.pgd import PGD
from guard_plugins.evaluation.gate.item import Item, judged, not_run, over_255, points
from guard_plugins.evaluation.gate.subject import Subject, share
from guard_plugins.evaluation.gate.transfer import Transfer

SCALES: Final = (5.0, 20.0)
"""Divisors of the logits, beside 1."""


def margin_losses_agree(subject: Subject, *, tolerance: float = 0.05) -> Item:
    """Check that PGD on the CW and DLR margins breaks about as much as PGD on the cross-entropy.

    Margins do not saturate on confident logits. They are the better losses on many honest models too, by a few
    points, hence the tolerance and the confidence asked for.
    """
    plain = share(subject.robust(PGD(steps=subject.steps)))
    margins = {kind: share(subject.robust(kind(steps=subject.steps))) for kind in (MarginPGD, DLRPGD)}
    lowest = min(margins.values())
    cw, dlr = (points(margins[kind]) for kind in (MarginPGD, DLRPGD))
    return judged(
        "margin losses agree",
        good=not subject.clearly_above(max(0.0, plain - lowest), tolerance),
        figure=f"cross-entropy {points(plain)}, CW {cw}, DLR {dlr} at {over_255(subject.eps)}",
        value=plain - lowest,
        suggests="the cross-entropy's gradient vanishes on this model: report margin attacks and AutoAttack",
    )


def converged(subject: Subject, *, tolerance: float = 0.005) -> Item:
    """Check that twice the steps, or 5 restarts, change the accuracy under PGD by less than half a point."""
    steps = subject.steps
    base = share(subject.robust(PGD(steps=steps)))
    doubled = share(subject.robust(PGD(steps=2 * steps)))
    restarted = share(subject.robust(PGD(steps=steps, restarts=5)))
    change = base - min(doubled, restarted)
    return judged(
        "twice the steps and 5 restarts change nothing",
        good=change < subject.slack(tolerance),
        figure=f"PGD-{steps} {points(base)}, {2 * steps} steps {points(doubled)}, 5 restarts {points(restarted)}",
        value=change,
        suggests="the attack has not converged: evaluate with more steps and restarts, and expect masked gradients",
    )


def scale_of_logits_is_immaterial(subject: Subject, *, tolerance: float = 0.02) -> Item:
    """Check that dividing the logits by 1, 5 and 20, which changes no prediction, does not help the attacker.

    Large logits drive the softmax into saturation, where the cross-entropy has no gradient left.
    """
    attack = PGD(steps=subject.steps)
    rates = {1.0: share(subject.robust(attack))}
    rates |= {scale: share(subject.robust_of(Rescaled(subject.model, 1 / scale), attack)) for scale in SCALES}
    change = rates[1.0] - min(rates.values())
    figure = ", ".join(f"÷{scale:g} {points(rate)}" for scale, rate in rates.items())
    return judged(
        "logit scale leaves the verdict",
        good=change <= subject.slack(tolerance),
        figure=f"accuracy under PGD with logits {figure}",
        value=change,
        suggests="the logits are so large that the softmax saturates: robust numbers from cross-entropy attacks are "
        "an artefact; use margin losses or AutoAttack",
    )


def transfer_is_weaker(subject: Subject, *, tolerance: float = 0.01) -> Item:
    """Check, image by image, that gradients of an undefended network break nothing the model's own did not."""
    name = "transfer weaker than white-box"
    if subject.source is None:
        return not_run(name, "no undefended network was given to transfer from")
    return _weaker(
        subject, name, "a transferred attack", Transfer(source=subject.source, steps=subject.steps), tolerance
    )


def teacher_is_of_little_help(subject: Subject, *, tolerance: float = 0.05) -> Item:
    """Check that an attacker who also follows the teacher's gradients, and smooths ReLU, breaks hardly anything more.

    Compared with what PGD on the cross-entropy and on the margin leave; stronger attacks break a little more of any
    honest model, hence the tolerance and the confidence asked for.
    """
    name = "adaptive attack breaks little more"
    if subject.teacher is None:
        return not_run(name, "no teacher was given whose gradients could be followed")
    attack = Adaptive(steps=subject.steps, teacher=subject.teacher)
    left = subject.robust(PGD(steps=subject.steps)) & subject.robust(MarginPGD(steps=subject.steps))
    only = share(left & ~subject.robust(attack))
    return judged(
        name,
        good=not subject.clearly_above(only, tolerance),
        figure=f"{attack.label} breaks {points(only)} % of the images that white-box PGD on two losses did not",
        value=only,
        suggests="the teacher's or the smoothed gradients are more useful than the model's own, which are masked: "
        "report the adaptive attack",
    )


def noise_is_weaker(subject: Subject, *, draws: int = 100, tolerance: float = 0.01) -> Item:
    """Check, image by image, that random corners of the ball break nothing that gradients did not."""
    return _weaker(
        subject, "random noise weaker than white-box", f"{draws} random draws", Noise(draws=draws), tolerance
    )


def _weaker(subject: Subject, name: str, what: str, attack: Transfer | Noise, tolerance: float) -> Item:
    left = subject.robust(PGD(steps=subject.steps))
    only = share(left & ~subject.robust(attack))
    return judged(
        name,
        good=only <= subject.slack(tolerance),
        figure=f"{what} break {points(only)} % of the images that PGD-{subject.steps} did not",
        value=only,
        suggests="the model's own gradients are less useful than a stranger's or than chance: they are masked",
    )


def falls_to_zero(subject: Subject) -> Item:
    """Check for chance or less in the ball of half the pixel range, where all images can become the same grey."""
    rate = share(subject.robust(PGD(steps=max(subject.steps, 40)), eps=0.5))
    chance = 1 / subject.classes()
    return judged(
        "ε curve falls to zero",
        good=rate <= subject.slack(chance),
        figure=f"accuracy {points(rate)} at ε = 0.5, chance {points(chance)}",
        value=rate,
        suggests="no model can resist so large a perturbation: the attack is led astray by masked gradients",
    )


class Rescaled(nn.Module):
    """A model with its logits multiplied by a constant.

    Args:
        model: From images to logits.
        factor: The constant.
    """

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, images: Tensor) -> Tensor:
        """Return the scaled logits, shape (B, K)."""
        logits: Tensor = self.model(images)
        return logits * self.factor
