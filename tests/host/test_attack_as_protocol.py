"""A registered attack can be asked for by name in place of a protocol, so that a plugin's attack is of use at once."""

from __future__ import annotations

import pytest

from guard_plugins.attacks.cw import CW
from guard_plugins.attacks.fgsm import FGSM
from guard_plugins.attacks.pgd import PGD
from guard_plugins.errors import ConfigError
from guard_plugins.evaluation.protocols import CURVE, CURVE_L2, find_protocol


@pytest.mark.parametrize(("attack", "radii"), [(FGSM, CURVE), (CW, CURVE_L2)])
def test_an_attacks_name_stands_for_that_attack_along_the_curve(attack: type, radii: tuple[float, ...]) -> None:
    known = {attack.name: attack}
    protocol = find_protocol(attack.name, known)
    assert protocol.summary == attack.summary
    ((built, eps),) = protocol.build(known)
    assert (type(built), eps) == (attack, radii)


def test_a_label_with_steps_sets_them_and_radii_can_be_given() -> None:
    known = {"pgd": PGD, "cw-l2": CW, "fgsm": FGSM}
    ((attack, eps),) = find_protocol("pgd-100", known, eps=[1, 2]).build(known)
    assert (attack.label, eps) == ("pgd-100", (1 / 255, 2 / 255))
    assert find_protocol("cw-l2", known, eps=[0.5]).attacks[0].eps == (0.5,)
    for wrong in ("fgsm-20", "pgd-", "pgd-x", "mim-20"):
        with pytest.raises(ConfigError, match=f"There is no protocol called '{wrong}'"):
            find_protocol(wrong, known)


def test_a_protocol_has_radii_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"The protocol quick has radii of its own \(--evaluation.eps\)") as caught:
        find_protocol("quick", {}, eps=[1])
    assert "pgd-100" in caught.value.do


def test_a_radius_beyond_all_pixels_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="A radius of 300/255 is larger than the whole range of pixels"):
        find_protocol("fgsm", {"fgsm": FGSM}, eps=[8, 300])
    assert find_protocol("fgsm", {"fgsm": FGSM}, eps=[255]).attacks[0].eps == (1.0,)
    assert find_protocol("cw-l2", {"cw-l2": CW}, eps=[300]).attacks[0].eps == (300,)


def test_a_protocol_wins_over_an_attack_of_its_name() -> None:
    assert len(find_protocol("paper", {"paper": FGSM}).attacks) > 1


def test_unknown_names_are_errors_with_and_without_attacks() -> None:
    for attacks in (None, {"fgsm": FGSM}):
        with pytest.raises(ConfigError, match="There is no protocol called 'fgms'"):
            find_protocol("fgms", attacks)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("pgd100", "pgd-100"), ("PGD-100", "pgd-100"), ("pgd_20", "pgd-20"), ("fgsm-20", "fgsm"), ("pdg", "pgd"),
        ("cwl2", "cw-l2"), ("Quick", "quick"), ("standart", "standard"),
    ],
)  # fmt: skip
def test_a_near_name_is_offered_and_attacks_are_listed(asked: str, meant: str) -> None:
    known = {"pgd": PGD, "cw-l2": CW, "fgsm": FGSM}
    with pytest.raises(ConfigError) as caught:
        find_protocol(asked, known)
    assert caught.value.do == f"Did you mean {meant!r}?"
    assert caught.value.seen.startswith("known: paper, quick, standard; or an attack alone: cw-l2, fgsm, pgd, ")
    find_protocol(meant, known)


def test_a_name_like_no_other_gets_no_offer() -> None:
    with pytest.raises(ConfigError) as caught:
        find_protocol("zzz", {"fgsm": FGSM})
    assert "Did you mean" not in caught.value.do
    assert caught.value.seen == "known: paper, quick, standard; or an attack alone: fgsm"
