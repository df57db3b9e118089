from __future__ import annotations

import subprocess
import sys

import pytest

from guard_plugins.attacks.base import Attack
from guard_plugins.evaluation.protocols import PROTOCOLS
from guard_plugins.host.builtin import register_attacks

NAMES = {
    "fgsm", "pgd", "mim", "cw-linf", "dlr-linf", "cw-l2", "apgd-ce", "apgd-t", "fab-t", "square", "autoattack",
    "adaptive", "noise",
}  # fmt: skip


def test_registers_every_attack_once_and_they_build_without_settings() -> None:
    attacks = register_attacks()
    assert [attack.name for attack in attacks] == list(dict.fromkeys(attack.name for attack in attacks))
    assert {attack.name for attack in attacks} == NAMES
    for attack in attacks:
        built = attack()
        assert isinstance(built, Attack)
        assert built.label.startswith(attack.name)
        assert attack.norm in ("Linf", "L2")
        assert attack.summary
        assert repr(built).startswith(attack.__name__ + "(")
        assert list(built.parts())


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_every_protocol_can_be_built_from_them(name: str) -> None:
    registry = {attack.name: attack for attack in register_attacks()}
    stages = PROTOCOLS[name].build(registry)
    assert len(stages) == len(PROTOCOLS[name].attacks)
    labels = [attack.label for attack, _ in stages]
    assert len(set(labels)) == len(labels)


def test_importing_the_plugin_does_not_import_torch() -> None:
    code = "import sys, guard_plugins.host.builtin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
