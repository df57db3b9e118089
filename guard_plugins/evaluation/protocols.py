"""The protocols: which attacks, with which settings, at which radii. Each is declared here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from guard_plugins.config.nearest import nearest
from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    from guard_plugins.attacks.base import Attack

CURVE: Final = tuple(e / 255 for e in (0, 1, 2, 4, 8, 16, 32))
"""Radii of the ε curve in pixel units; radius 0 gives the clean accuracy."""
MOST_STEPS: Final = 1_000_000
"""Steps of an attack, at most; more were hardly meant."""
CURVE_L2: Final = (0.0, 0.25, 0.5, 1.0)
"""The same for attacks in the L2 norm."""


@dataclass(frozen=True)
class ProtocolAttack:
    """One attack of a protocol.

    Attributes:
        attack: Name of a registered attack.
        eps: Radii in pixel units, in the attack's norm.
        settings: Keyword arguments of the attack's constructor.
    """

    attack: str
    eps: tuple[float, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """A fixed list of attacks with their radii.

    Attributes:
        name: What users pass to ``--evaluation.protocol``, and what reports call it.
        summary: One line for listings.
        attacks: The attacks, cheapest first.
        notes: What readers of the numbers must know.
        probe_images: Images on which the release gate attacks a model again.
        confirm_images: Images on which it repeats a check that failed, where there are so many.
        probe: The gate's PGD: settings of its constructor.
    """

    name: str
    summary: str
    attacks: tuple[ProtocolAttack, ...]
    notes: tuple[str, ...] = ()
    probe_images: int = 48
    confirm_images: int = 500
    probe: Mapping[str, Any] = field(default_factory=lambda: {"steps": 20})

    def build(self, registry: Mapping[str, type[Attack]]) -> list[tuple[Attack, tuple[float, ...]]]:
        """Return the attacks, each with its radii.

        Args:
            registry: Attack classes by name, as the plugin host collected them.

        Raises:
            ConfigError: If an attack is not registered.
        """
        return [(_find(registry, attack.attack)(**attack.settings), attack.eps) for attack in self.attacks]


def find_protocol(
    name: str, attacks: Mapping[str, type[Attack]] | None = None, *, eps: Sequence[float] | None = None
) -> Protocol:
    """Return the protocol called ``name``, or a protocol of one attack if ``name`` is that of an attack.

    Args:
        name: A protocol, or an attack as reports label it, such as ``autoattack`` or ``pgd-100``. The number is that of
            the steps, for attacks that have steps.
        attacks: The registered attacks by name; None for the protocols only.
        eps: Radii for an attack, over 255 in L∞ and in pixel units in L2; None for the ε curve.

    Raises:
        ConfigError: If there is no such protocol or attack, radii are given for a protocol, or one is above 255/255.
    """
    if name in PROTOCOLS:
        if eps is not None:
            raise ConfigError(
                f"The protocol {name} has radii of its own (--evaluation.eps)",
                do="Leave them out, or name one attack as the protocol, such as autoattack or pgd-100.",
            )
        return PROTOCOLS[name]
    base, steps = _with_steps(name, attacks or {})
    if base is None:
        raise _unknown_protocol(name, attacks or {})
    unit, curve = (255, CURVE) if base.norm == "Linf" else (1, CURVE_L2)
    radii = curve if eps is None else tuple(radius / unit for radius in eps)
    if not radii:
        raise ConfigError("No radius was given (--evaluation.eps)", do="Give radii over 255, such as 1,2,4,8.")
    if unit == 255 and max(radii) > 1:
        raise ConfigError(
            f"A radius of {255 * max(radii):g}/255 is larger than the whole range of pixels (--evaluation.eps)",
            do="Give radii over 255, such as 1,2,4,8.",
        )
    return Protocol(name, base.summary, (ProtocolAttack(base.name, radii, {} if steps is None else {"steps": steps}),))


def _with_steps(name: str, attacks: Mapping[str, type[Attack]]) -> tuple[type[Attack] | None, int | None]:
    """Return the attack and the steps that a label such as ``pgd-100`` names, None for what it does not name."""
    label = re.fullmatch(r"(.+)-(\d+)", name)
    known = set(attacks)  # asked for before the names that another plugin would have to be loaded for
    if not (label and label[1] in known and name not in known) and name in attacks:
        return attacks[name], None
    attack = attacks.get(label[1]) if label else None
    if label is None or attack is None or not hasattr(attack, "steps"):
        return None, None
    steps = int(label[2].lstrip("0")[: len(str(MOST_STEPS)) + 1] or 0)  # Python reads no thousands of digits
    if not 1 <= steps <= MOST_STEPS:
        raise ConfigError(
            f"An attack takes 1 to {MOST_STEPS:,} steps (--evaluation.protocol)", seen=name[:80],
            do=f"Give a number in this range, such as {attack.name}-100.",
        )  # fmt: skip
    return attack, steps


def _find(registry: Mapping[str, type[Attack]], name: str) -> type[Attack]:
    if name not in registry:
        raise _unknown("attack", name, registry)
    return registry[name]


def _unknown(kind: str, name: str, known: Mapping[str, object]) -> ConfigError:
    near = nearest(name, known)
    return ConfigError(
        f"There is no {kind} called {name!r}.",
        seen=f"known: {', '.join(sorted(known)) or 'none'}",
        do=f"Did you mean {near!r}?" if near else f"Use one of the known names, or install the {kind}'s plugin.",
    )


def _unknown_protocol(name: str, attacks: Mapping[str, type[Attack]]) -> ConfigError:
    if name.lower() in ("none", "off", "no", "skip", "false"):
        return ConfigError(
            f"There is no protocol called {name!r} (--evaluation.protocol)",
            do="guard-run --stop-after students ends a run before that, --evaluation.images 100 makes it short.",
        )
    near = _near(name, attacks)
    alone = f"; or an attack alone: {', '.join(sorted(attacks))}" if attacks else ""
    stepped = ", with a number of steps if it has steps, such as pgd-100" if "pgd" in attacks else ""
    return ConfigError(
        f"There is no protocol called {name!r}.",
        seen=f"known: {', '.join(sorted(PROTOCOLS))}{alone}{stepped}",
        do=f"Did you mean {near!r}?" if near else "Use one of the known names, or install the attack's plugin.",
    )


def _near(name: str, attacks: Mapping[str, type[Attack]]) -> str | None:
    """Return the known name or label nearest to ``name``: ``pgd-100`` for ``pgd100``."""
    label = re.fullmatch(r"(.+?)[-_ ]?(\d+)", name)
    attack = attacks.get(label[1].lower()) if label else None
    if label is not None and attack is not None:
        return f"{attack.name}-{label[2]}" if hasattr(attack, "steps") else attack.name
    return nearest(name, [*PROTOCOLS, *attacks])


_PAPER: Final = (1 / 255,)
_STANDARD: Final = tuple(e / 255 for e in (1, 2, 4, 8))
_PGD_CURVE: Final = ProtocolAttack("pgd", CURVE, {"steps": 20})
_QUICK: Final[Mapping[str, Any]] = {"steps": 20, "restarts": 5, "near": 0.25}
"""A single PGD-20 leaves one to two points too many on digits. Nearly all images that restarts break had lost three
quarters of their margin to the first start, so that only these are attacked again."""

PROTOCOLS: Final[Mapping[str, Protocol]] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "quick",
            "PGD-20 with up to 5 starts along the ε curve 0, 1, 2, 4, 8, 16, 32 over 255",
            (ProtocolAttack("pgd", CURVE, _QUICK),),
            probe=_QUICK,
        ),
        Protocol(
            "standard",
            "AutoAttack, PGD-100, L∞ margin PGD (CW), MIM and Square at 1, 2, 4, 8 over 255, CW-L2 at 0.5, the ε curve",
            (
                _PGD_CURVE,
                ProtocolAttack("fgsm", _STANDARD),
                ProtocolAttack("pgd", _STANDARD, {"steps": 100}),
                ProtocolAttack("mim", _STANDARD, {"steps": 100}),
                ProtocolAttack("cw-linf", _STANDARD, {"steps": 100}),
                ProtocolAttack("cw-l2", (0.5,)),
                ProtocolAttack("square", _STANDARD),
                ProtocolAttack("autoattack", _STANDARD),
            ),
            probe_images=200,
            probe={"steps": 100},
        ),
        Protocol(
            "paper",
            "the attacks of the GUARD paper's tables at ε = 1/255",
            (
                ProtocolAttack("pgd", _PAPER, {"steps": 100, "step_size": 0.25 / 255}),
                ProtocolAttack("square", _PAPER),
                ProtocolAttack("autoattack", _PAPER),
                ProtocolAttack("cw-linf", _PAPER, {"steps": 100}),
                ProtocolAttack("mim", _PAPER, {"steps": 20, "step_size": 1 / 255}),
            ),
            (
                "CW: the paper's CW-L2 ran with c = 1e-4, too small to succeed, and no radius; replaced by the CW "
                "margin loss under PGD-100 at the same ε.",
                "MIM: the paper normalised the gradient by the L1 norm of the whole batch, so that results depended "
                "on its size; replaced by the per-sample L1 norm of the published attack.",
                "AutoAttack: the paper's ran 10 of the standard's 100 iterations; replaced by the official code.",
            ),
            probe_images=200,
            probe={"steps": 100},
        ),
    )
}
"""The protocols by name."""
