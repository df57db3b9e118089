"""The attacks that ship with the project, registered as a stranger's would be."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from guard_plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from guard_plugins.attacks.base import Attack

_BUILT_IN: Final = (
    ("fgsm", "FGSM"),
    ("pgd", "PGD"),
    ("mim", "MIM"),
    ("margin", "MarginPGD"),
    ("margin", "DLRPGD"),
    ("cw", "CW"),
    ("apgd", "APGDCE"),
    ("apgd", "APGDT"),
    ("fab", "FABT"),
    ("square", "Square"),
    ("autoattack", "AutoAttack"),
    ("adaptive", "Adaptive"),
    ("noise", "Noise"),
)


@hookimpl
def register_attacks() -> list[type[Attack]]:
    """Return the built-in attacks; their modules (and torch) are imported here, not with this file."""
    return [getattr(importlib.import_module(f"guard_plugins.attacks.{module}"), name) for module, name in _BUILT_IN]
