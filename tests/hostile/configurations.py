"""Configurations nobody would write, by the thousand."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from guard_plugins.config import RunConfig
from tests.hostile.judge import Tally

METHODS = (*("sre2l", "cda", "dc", "random", "noise") * 4, "nonsense", "list", "", "SRe2L")
SANE: tuple[Any, ...] = (1, 3, 0.5, 100, "digits", "resnet18", "convnet3", "none", "quick",
                         "relu", "plain", False, None, "runs/x")  # fmt: skip
SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 10**30, 10**400, 0.5, -0.0, 1e308, "", "x", "digits", "cifar10", "none", "nan",
    "-inf", "1e999", "9" * 5000, "a\0b", "~nosuchuser/x", "x" * 300, "é\u2028", "\ud800", "resnet18", "convnet3",
    "standard",
    "{}", "[1, 2]", "--ipc", "true", "null", "../..", "/dev/null", "0x10", "1_000", " 1 ", "1,2", "*a", "&a",
)  # fmt: skip
TEXTS = (
    "[" * 50_000, "a: 1\na: 2\n", "a: &a [*a]\n", "- x\n", "x", "\t", "%YAML 9.9\n---\n", "x: !!python/name:os\n",
    "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)),
    "\ufeffipc: 3\n",
)  # fmt: skip


def options() -> list[tuple[str, ...]]:
    """Return the paths of all options and sections."""
    found: list[tuple[str, ...]] = [("recover", "iterations"), ("match", "network"), ("recover",), ("nothing",)]
    for name, field in RunConfig.model_fields.items():
        found.append((name,))
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += [(name, inner) for inner in kind.model_fields]
    return found


def value(rng: random.Random, depth: int = 0) -> Any:
    """Return a value of any type."""
    if depth < 2 and rng.random() < 0.15:
        return [value(rng, depth + 1) for _ in range(rng.randrange(3))]
    if depth < 2 and rng.random() < 0.15:
        return {str(rng.choice(SCALARS)): value(rng, depth + 1) for _ in range(rng.randrange(3))}
    return rng.choice(SANE if rng.random() < 0.6 else SCALARS)


def as_file(rng: random.Random, folder: Path) -> list[str]:
    """Return arguments that name a file of settings."""
    if rng.random() < 0.1:
        text = rng.choice(TEXTS)
    else:
        settings: dict[str, Any] = {"method": rng.choice(METHODS)} if rng.random() < 0.5 else {}
        for path in rng.sample(options(), rng.choice([1, 1, 1, 2, 2, 3])):
            section = settings
            for part in path[:-1]:
                section = section[part] if isinstance(section.get(part), dict) else section.setdefault(part, {}) or {}
            if isinstance(section, dict):
                section[path[-1]] = value(rng)
        text = json.dumps(settings)  # which is YAML too
    file = folder / "hostile.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    return ["--config", str(file)]


def as_flags(rng: random.Random) -> list[str]:
    """Return settings as flags."""
    found = []
    for path in rng.sample(options(), rng.choice([1, 1, 1, 2, 2, 3])):
        flag = "--" + ".".join(part.replace("_", "-") for part in path)
        given = value(rng)
        text = (
            (given if isinstance(given, str) else json.dumps(given))
            .replace("\0", "")
            .encode("utf-8", "replace")
            .decode()
        )
        found += [f"{flag}={text}"] if rng.random() < 0.5 else [flag] if rng.random() < 0.2 else [flag, text]
    return [argument for argument in found if argument != "--output"]


def try_configurations(count: int, seed: int, folder: Path) -> Tally:
    """Have ``guard-run --print-config`` resolve generated configurations."""
    from guard_plugins.cli import run

    rng, tally, command = random.Random(seed), Tally(), run.main
    for number in range(count):
        method = ["--method", rng.choice(METHODS)] if rng.random() < 0.9 else []
        kind = rng.random()
        given = [*(as_file(rng, folder) if kind < 0.6 else []), *(as_flags(rng) if kind > 0.4 else [])]
        _one(tally, f"configuration {seed}/{number}", command, [*method, *given, "--print-config"])
    return tally


def _one(tally: Tally, name: str, command: Callable[[Sequence[str]], int], arguments: list[str]) -> None:
    tally.judge(name, command, [argument for argument in arguments if argument not in ("-h", "--help")])
