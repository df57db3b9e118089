from __future__ import annotations

import pytest

from guard_plugins.errors import ConfigError
from guard_plugins.evaluation.protocols import PROTOCOLS, find_protocol
from guard_plugins.host.builtin import register_attacks

REGISTRY = {attack.name: attack for attack in register_attacks()}


def test_quick_is_pgd_20_with_restarts_along_the_curve() -> None:
    ((attack, eps),) = find_protocol("quick").build(REGISTRY)
    assert attack.label == "pgd-20x5"
    assert [round(e * 255, 6) for e in eps] == [0, 1, 2, 4, 8, 16, 32]


def test_standard_holds_what_it_promises() -> None:
    built = {
        attack.label: [round(e * 255, 6) for e in eps] for attack, eps in find_protocol("standard").build(REGISTRY)
    }
    for label in ("autoattack", "pgd-100", "cw-linf-100", "mim-100", "square-5000"):
        assert built[label] == [1, 2, 4, 8]
    assert built["pgd-20"] == [0, 1, 2, 4, 8, 16, 32]
    assert "cw-l2-9x100" in built


def test_paper_is_at_1_over_255_and_says_what_it_replaced() -> None:
    protocol = find_protocol("paper")
    built = protocol.build(REGISTRY)
    assert [attack.label for attack, _ in built] == ["pgd-100", "square-5000", "autoattack", "cw-linf-100", "mim-20"]
    assert all(eps == (1 / 255,) for _, eps in built)
    assert built[0][0].step_size == 0.25 / 255
    notes = " ".join(protocol.notes)
    assert "c = 1e-4" in notes
    assert "whole batch" in notes
    assert "10 of the standard's 100" in notes


def test_an_unknown_name_is_an_error_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="no protocol called 'quik'") as caught:
        find_protocol("quik")
    assert "Did you mean 'quick'?" in caught.value.do
    for none in ("none", "Off"):  # leaving the evaluation out is no protocol
        with pytest.raises(ConfigError, match="no protocol called") as caught:
            find_protocol(none, REGISTRY)
        assert "--stop-after students" in caught.value.do
    with pytest.raises(ConfigError, match="no attack called 'pgd'") as caught:
        PROTOCOLS["quick"].build({})
    assert "known: none" in caught.value.seen


@pytest.mark.parametrize("steps", ["0", "1000001", "9" * 5000], ids=["none", "too many", "5000 digits"])
def test_steps_that_nobody_means_are_refused(steps: str) -> None:
    with pytest.raises(ConfigError, match="takes 1 to 1,000,000 steps"):
        find_protocol(f"pgd-{steps}", REGISTRY)
    assert find_protocol("pgd-0007", REGISTRY).attacks[0].settings == {"steps": 7}


def test_an_attack_needs_a_radius() -> None:
    with pytest.raises(ConfigError, match="No radius was given"):
        find_protocol("pgd", REGISTRY, eps=())
