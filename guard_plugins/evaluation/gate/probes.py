"""Gate items that attack the model in other ways, to find out whether the attacks of the protocol were enough."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from guard_plugins.artifacts.formatting import percent, points, radius
from guard_plugins.artifacts.report import GateItem
from guard_plugins.attacks.adaptive import Adaptive
from guard_plugins.attacks.margin import DLRPGD, MarginPGD
from guard_plugins.attacks.noise import RandomNoise
from guard_plugins.attacks.pgd import PGD
from guard_plugins.evaluation.gate.item import judged, not_run
from guard_plugins.evaluation.gate.subject import Subject, clearly_more, share
from guard_plugins.evaluation.gate.transfer import Transfer

SCALES: Final = (5.0, 20.0)
"""Divisors of the logits, beside 1."""


def margin_losses_agree(subject: Subject, *, tolerance: float = 0.05) -> GateItem:
    """Check that PGD on the CW and DLR margins breaks about as many images as PGD on the cross-entropy.

    Margins do not saturate on confident logits. On many honest models they break a few points more as well, so the
    check has a tolerance and fails with 95 % confidence only.
    """
    plain = subject.robust(subject.attack)
    margins = [subject.robust(_alike(kind, subject.attack)) for kind in (MarginPGD, DLRPGD)]
    cw, dlr = map(share, margins)
    return judged(
        "margin losses agree",
        good=not any(clearly_more(plain, left, tolerance) for left in margins),
        figure=f"{_where(subject)}, PGD on the cross-entropy leaves {percent(share(plain))} % right, on the CW margin "
        f"{percent(cw)} %, on the DLR margin {percent(dlr)} %",
        value=share(plain) - min(cw, dlr),
        finding=f"{_weak(subject)}: margin losses break "
        f"{points(share(plain) - min(cw, dlr))} points more on {len(plain)} images",
        suggests="the cross-entropy's gradient vanishes on this model: report margin attacks and AutoAttack",
    )


def converged(subject: Subject, *, tolerance: float = 0.005) -> GateItem:
    """Check that PGD with twice the steps, or with 5 restarts, breaks at most half a point more.

    Both attack every image that is left. They find a few more on honest models too, how many depends on rounding. So
    the check fails only if the difference, image by image, is above the tolerance with 95 % confidence.
    """
    steps, base = subject.attack.steps, subject.robust(subject.attack)
    stronger = [subject.left_by(attack, base) for attack in (PGD(steps=2 * steps), PGD(steps=steps, restarts=5))]
    doubled, restarted = map(share, stronger)
    excess = share(base) - min(doubled, restarted)
    return judged(
        "twice the steps and 5 restarts change nothing",
        good=not any(clearly_more(base, left, tolerance) for left in stronger),
        figure=f"{_where(subject)}, {_named(subject)} leaves {percent(share(base))} % right, {2 * steps} steps "
        f"{percent(doubled)} %, 5 restarts more {percent(restarted)} %",
        value=excess,
        finding=f"{_weak(subject)}: {points(excess)} points too high on {len(base)} images",
        suggests="the attack has not converged: evaluate with more steps and restarts, and expect masked gradients",
    )


def scale_of_logits_is_immaterial(subject: Subject, *, tolerance: float = 0.02) -> GateItem:
    """Check that dividing the logits by 5 and by 20, which changes no prediction, does not help the attacker.

    Large logits saturate the softmax, and the cross-entropy then has no gradient.
    """
    attack = subject.attack
    left = subject.robust(attack)
    rates = {1.0: share(left)}
    rates |= {s: share(subject.left_by(attack, left, model=Rescaled(subject.model, 1 / s))) for s in SCALES}
    change = rates[1.0] - min(rates.values())
    divided = ", ".join(f"by {scale:g} {percent(rates[scale])} %" for scale in SCALES)
    return judged(
        "logit scale makes no difference",
        good=change <= subject.slack(tolerance),
        figure=f"{_where(subject)}, {_named(subject)} leaves {percent(rates[1.0])} % right, with logits "
        f"divided {divided}",
        value=change,
        finding=f"{_weak(subject)}: with smaller logits it breaks {points(change)} "
        f"points more on {len(subject.labels)} images",
        suggests="the logits are so large that the softmax saturates, so attacks on the cross-entropy fail: use margin "
        "losses or AutoAttack",
    )


def transfer_is_weaker(subject: Subject, *, tolerance: float = 0.01) -> GateItem:
    """Check that the gradients of an undefended network break almost no image that the model's own did not."""
    name = "transfer weaker than white-box"
    if subject.source is None:
        return not_run(name, "no undefended network was given to transfer from")
    return _weaker(
        subject, name, "an attack transferred from an undefended network breaks",
        Transfer(source=subject.source, steps=subject.attack.steps), tolerance,
    )  # fmt: skip


def teacher_is_of_little_help(subject: Subject, *, tolerance: float = 0.05) -> GateItem:
    """Check that an attacker who also uses the teacher's gradients and a smooth ReLU breaks hardly any more images.

    The comparison is with PGD on the cross-entropy and on the margin. A stronger attack breaks a few more images of an
    honest model as well, so the check has a tolerance and fails with 95 % confidence only.
    """
    name = "adaptive attack breaks little more"
    if subject.teacher is None:
        return not_run(name, "no teacher was given")
    attack = Adaptive(steps=subject.attack.steps, teacher=subject.teacher)
    left = subject.robust(subject.attack) & subject.robust(_alike(MarginPGD, subject.attack))
    both = subject.left_by(attack, left)
    only = share(left & ~both)
    return judged(
        name,
        good=not clearly_more(left, both, tolerance),
        figure=f"PGD on cross-entropy and margin leaves {_of(left)} images right at {radius(subject.eps)}; "
        f"{attack.label} breaks {int((left & ~both).sum())} of these",
        value=only,
        finding=f"{_weak(subject)}: {attack.label} breaks {points(only)} points more on {len(left)} images",
        suggests="the gradients of the teacher or of the smooth ReLU are more useful than the model's own, which are "
        "masked: report the adaptive attack",
    )


def noise_is_weaker(subject: Subject, *, draws: int = 100, tolerance: float = 0.01) -> GateItem:
    """Check that random corners of the ball break almost no image that gradients did not.

    Args:
        subject: What is examined.
        draws: Random perturbations per image.
        tolerance: Share of the images they may break.
    """
    return _weaker(
        subject, "random noise weaker than white-box", f"{draws} random perturbations break", RandomNoise(draws=draws),
        tolerance,
    )  # fmt: skip


def _weaker(subject: Subject, name: str, breaks: str, attack: Transfer | RandomNoise, tolerance: float) -> GateItem:
    left = subject.robust(subject.attack)
    broken = left & ~subject.left_by(attack, left)
    only = share(broken)
    return judged(
        name,
        good=only <= subject.slack(tolerance),
        figure=f"{_named(subject)} leaves {_of(left)} images right at {radius(subject.eps)}; {breaks} "
        f"{int(broken.sum())} of these",
        value=only,
        finding=f"{_weak(subject)}: {breaks} {points(only)} points more on {len(left)} images",
        suggests="this attack uses no gradients of the model and still beats them: they are masked",
    )


def falls_to_zero(subject: Subject) -> GateItem:
    """Check that accuracy falls to chance at ε = 0.5, where every image can be turned into the same grey."""
    rate = share(subject.robust(PGD(steps=max(subject.attack.steps, 40)), eps=0.5))
    chance = 1 / subject.classes()
    return judged(
        "ε curve falls to zero",
        good=rate <= subject.slack(chance),
        figure=f"at ε = 0.5, {percent(rate)} % of {len(subject.labels)} images are right, chance {percent(chance)} %",
        value=rate,
        finding=f"{percent(rate)} % of {len(subject.labels)} images survive ε = 0.5, where no model can resist",
        suggests="no model can resist so large a perturbation: the attack fails because gradients are masked",
    )


def _alike(kind: type[PGD], attack: PGD) -> PGD:
    """Return an attack on another loss with the same steps and restarts."""
    return kind(steps=attack.steps, restarts=attack.restarts, near=attack.near)


def _named(subject: Subject) -> str:
    return subject.attack.label.replace(subject.attack.name, subject.attack.display, 1)


def _where(subject: Subject) -> str:
    return f"at {radius(subject.eps)} on {len(subject.labels)} images"


def _of(left: Tensor) -> str:
    return f"{int(left.sum())} of {len(left)}"


def _weak(subject: Subject) -> str:
    return f"{_named(subject)} is too weak at {radius(subject.eps)}"


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
