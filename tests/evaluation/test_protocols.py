from __future__ import annotations

import pytest

from guard_plugins.attacks.plugin import register_attacks
from guard_plugins.errors import ConfigError
from guard_plugins.evaluation.protocols import PROTOCOLS, find_protocol

REGISTRY = {attack.name: attack for attack in register_attacks()}


def test_quick_is_pgd_20_along_the_curve() -> None:
    ((attack, eps),) = find_protocol("quick").build(REGISTRY)
    assert attack.label == "pgd-20"
    assert [round(e * 255, 6) for e in eps] == [0, 1, 2, 4, 8, 16, 32]


def test_an_unknown_name_is_an_error_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="no protocol called 'quik'") as caught:
        find_protocol("quik")
    assert "did you mean 'quick'?" in caught.value.do
    with pytest.raises(ConfigError, match="no attack called 'pgd'") as caught:
        PROTOCOLS["quick"].build({})
    assert "known: none" in caught.value.seen
