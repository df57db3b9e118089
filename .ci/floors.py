"""Prints the oldest supported version of every dependency, as constraints for pip; read from setup.cfg alone."""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path

SETUP = Path(__file__).parents[1] / "setup.cfg"


def floors(text: str) -> list[str]:
    """Return ``name==version`` for every requirement ``name>=version`` of a setup.cfg, extras included.

    Raises:
        ValueError: If two requirements name different floors of one package.
    """
    parser = configparser.ConfigParser()
    parser.read_string(text)
    extras = parser["options.extras_require"].values()
    found: dict[str, str] = {}
    for requirement in "\n".join([parser["options"]["install_requires"], *extras]).split("\n"):
        floor = re.match(r"([\w.-]+)\s*>=\s*([\w.]+)", requirement.strip())
        if floor is not None and found.setdefault(floor[1], floor[2]) != floor[2]:
            raise ValueError(f"setup.cfg gives two floors of {floor[1]}: {found[floor[1]]} and {floor[2]}")
    return [f"{name}=={version}" for name, version in found.items()]


if __name__ == "__main__":
    sys.stdout.write("\n".join(floors(SETUP.read_text(encoding="utf-8"))) + "\n")
