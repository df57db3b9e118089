"""Several runs in one command: seeds, and the same run without the hook, with a rival or by another method."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guard_plugins.cli.arguments import Request, parse
from guard_plugins.cli.extras import Extras, near_rival
from guard_plugins.config.schema import OBJECTIVES
from guard_plugins.errors import ConfigError
from guard_plugins.host import PluginHost, catalogue
from guard_plugins.runtime.malloc import keep_freed_memory
from guard_plugins.runtime.signals import StoppedError

NO_GUARD: Final = "no-guard"
PAGE: Final = "compare.html"
TEACHER: Final = "teacher.safetensors"


@dataclass(frozen=True)
class Member:
    """One run of a series.

    Attributes:
        name: Name of its folder: what it is, and its seed.
        request: What to do.
    """

    name: str
    request: Request


def run_series(arguments: Sequence[str], extras: Extras) -> int:
    """Do every run that is not finished, write the page that compares them, and return the exit code.

    Given again with the same ``--output``, the command goes on where it stopped.

    Args:
        arguments: The command line without the options in ``extras``.
        extras: Seeds and rivals.

    Raises:
        GuardError: If anything is wrong with any of the runs; nothing is written then.
        StoppedError: If the series was asked to stop.
    """
    first = parse(arguments)
    if first.resume or first.print_only:
        raise ConfigError(
            "--seeds and --compare start runs of their own, and go with neither --resume nor --print-config",
            do="Give the same command again, with the same --output, to go on with a series.",
        )
    folder = first.config.output or _default(first)
    members = list(_members(arguments, extras, first, folder))
    keep_freed_memory()
    from guard_plugins.cli.show import show
    from guard_plugins.pipeline.run import start
    from guard_plugins.report.write import write_comparison

    for number, member in enumerate(members, 1):
        path = folder / member.name
        sys.stderr.write(f"run {number} of {len(members)}: {member.name}\n")
        begun = (path / "config.yaml").is_file()
        request = parse([f"--resume={path}"]) if begun else member.request
        try:
            show(start(request.config, resumed=path if begun else None, level=extras.level), request.config)
        except StoppedError as error:
            given = "" if first.config.output else f" --output {folder}"
            raise StoppedError(error.number, do=f"Continue with the same command{given and ' and'}{given}") from None
    page = folder / PAGE
    write_comparison([folder / member.name for member in members], page)
    sys.stdout.write(f"comparison: {page}\n")
    return 0


def _default(request: Request) -> Path:
    from guard_plugins.artifacts.folder import RunFolder

    return RunFolder.default(request.config.method, request.config.dataset)


def _members(arguments: Sequence[str], extras: Extras, first: Request, folder: Path) -> Iterator[Member]:
    """Yield every run; a method that trains the same teacher as the first one takes that one's."""
    seeds = extras.seeds or (first.config.seed,)
    known = [NO_GUARD, *OBJECTIVES, *sorted({entry.name for entry in catalogue()} - {first.config.method})]
    for seed in seeds:
        own = f"{first.config.method}-seed{seed}"
        yield Member(own, _request(arguments, seed, folder / own))
        for name in extras.compare:
            if name not in known:
                raise near_rival(name, known)
            member = f"{name}-seed{seed}"
            changed = _changed(arguments, name)
            if name not in (NO_GUARD, *OBJECTIVES):
                shared = trains_the_same(first.config.method, name)
                given = [f"--teacher={folder / own / TEACHER}"] if shared else []
                changed = [*(_without_training(changed) if given or not _has_teacher(name) else changed), *given]
            yield Member(member, _request(changed, seed, folder / member))


def _changed(arguments: Sequence[str], name: str) -> list[str]:
    """Return the arguments of the run to compare with."""
    if name == NO_GUARD:
        return [*arguments, "--no-guard"]
    if name in OBJECTIVES:
        return [*arguments, "--teacher.training", name]
    return [*_without_method(arguments), "--method", name]


def _without_training(arguments: Sequence[str]) -> list[str]:
    """Drop how the teacher is trained, since it is there already."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if not word.startswith("--teacher.") or word.split("=")[0] in ("--teacher.network", "--teacher.activation"):
            kept.append(word)
        elif "=" not in word:
            next(words, None)
    return kept


def _without_method(arguments: Sequence[str]) -> list[str]:
    """Drop the first method, given as a first word or by flag."""
    words = list(arguments)
    if words and not words[0].startswith("-"):
        return words[1:]
    for n, word in enumerate(words):
        if word == "--method":
            return [*words[:n], *words[n + 2 :]]
        if word.startswith("--method="):
            return [*words[:n], *words[n + 1 :]]
    return words


def _request(arguments: Sequence[str], seed: int, output: Path) -> Request:
    return parse([*_without_output(arguments), f"--seed={seed}", f"--output={output}"])


def _without_output(arguments: Sequence[str]) -> list[str]:
    words = list(arguments)
    for n, word in enumerate(words):
        if word in ("--output", "--seed"):
            return _without_output([*words[:n], *words[n + 2 :]])
        if word.startswith(("--output=", "--seed=")):
            return _without_output([*words[:n], *words[n + 1 :]])
    return words


def _has_teacher(name: str) -> bool:
    return PluginHost(only=[name]).method(name).uses_teacher


def trains_the_same(method: str, other: str) -> bool:
    """Say whether two methods train their teachers in the same loop."""
    one, two = (PluginHost(only=[name]).method(name) for name in (method, other))
    return one.uses_teacher and two.uses_teacher and one.train_teacher is two.train_teacher
