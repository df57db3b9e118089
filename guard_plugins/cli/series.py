"""Several runs in one command: seeds, and the same run without the hook, with a rival or by another method."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from guard_plugins.cli.arguments import ANEW, Request, parse
from guard_plugins.cli.extras import HELPER, Extras, near_rival, without, without_method
from guard_plugins.config.explain import flag
from guard_plugins.config.schema import OBJECTIVES, RunConfig
from guard_plugins.config.sources import fields_of, leaves
from guard_plugins.errors import ConfigError, GuardError
from guard_plugins.host import PluginHost, catalogue
from guard_plugins.host.effects import idle_settings
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
        left_out: Flags of the first run that this one lacks, or that do nothing in it.
    """

    name: str
    request: Request
    left_out: tuple[str, ...] = ()

    @property
    def announcement(self) -> str:
        """What to say when it begins."""
        return self.name + (f" (without {', '.join(self.left_out)}, which it does not use)" if self.left_out else "")


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
    from guard_plugins.artifacts.folder import RunFolder

    first = parse(arguments)
    if first.resume or first.print_only:
        raise ConfigError(
            "--seeds and --compare start runs of their own, and go with neither --resume nor --print-config",
            do="Give the same command again, with the same --output, to go on with a series.",
        )
    with RunFolder.of_series(first.config.output, first.config.method, first.config.dataset) as folder:
        members, begun = _planned(arguments, extras, first, folder)
    keep_freed_memory()
    from guard_plugins.cli.report import show_comparison
    from guard_plugins.cli.show import show
    from guard_plugins.pipeline.cores import Beside
    from guard_plugins.pipeline.run import start
    from guard_plugins.report.write import require_free, write_comparison

    page = folder / PAGE
    require_free(page)
    for number, member in enumerate(members, 1):
        sys.stderr.write(f"run {number} of {len(members)}: {member.announcement}\n")
        request = begun.get(member.name, member.request)
        try:
            done = start(
                request.config, resumed=request.resume, level=extras.level, beside=Beside(extras.processes, HELPER)
            )
            show(done, request.config, level=extras.level)
        except StoppedError as error:
            given = "" if first.config.output else f" --output {folder}"
            raise StoppedError(error.number, do=f"Continue with the same command{given and ' and'}{given}") from None
        except GuardError:
            sys.stderr.write(_said_of_failure(number, members, folder))
            raise
    show_comparison(write_comparison([folder / member.name for member in members], page))
    sys.stdout.write(f"comparison: {page}\n")
    return 0


def _planned(
    arguments: Sequence[str], extras: Extras, first: Request, folder: Path
) -> tuple[list[Member], dict[str, Request]]:
    """Return every run, and how to go on with those that have begun, by name."""
    from guard_plugins.pipeline.preparation import require_possible

    members = list(_members(arguments, extras, first, folder))
    begun = {member.name: found for member in members if (found := _begun(folder / member.name, member, arguments))}
    require_possible([member.request.config for member in members if member.name not in begun])
    return members, begun


def _said_of_failure(number: int, members: Sequence[Member], folder: Path) -> str:
    """Return what is left of a series after a run of it failed: what is finished, and how to go on."""
    finished = [str(folder / member.name) for member in members[: number - 1]]
    compare = f"; to compare what is finished: guard-report {shlex.join(finished)} --output PAGE.html"
    return (
        f"run {number} of {len(members)} failed, {number - 1} before it are finished{compare if finished[1:] else ''}. "
        "The same command, with the same --output, goes on with it.\n"
    )


def _begun(path: Path, member: Member, arguments: Sequence[str]) -> Request | None:
    """Return how to go on with a run that has begun, or None.

    Of the arguments those count that a resumed run may be given anew.

    Raises:
        ConfigError: If it has other settings than are asked for now: it would keep them in silence.
    """
    if not (path / "config.yaml").is_file():
        return None
    request = parse([f"--resume={path}", *_anew(arguments, member.request.config)])
    there, here = (_settings(one.config) for one in (request, member.request))
    other = [name for name in there | here if there.get(name) != here.get(name)]
    if other:
        more = f", and {len(other) - 3} more" if len(other) > 3 else ""
        raise ConfigError(
            f"The run in {path} began with other settings than this command gives it",
            seen="; ".join(f"{flag(name)}: {there.get(name)} there, {here.get(name)} here" for name in other[:3])
            + more,
            do="Give the command that the series began with, or choose another --output.",
        )
    return request


def _settings(config: RunConfig) -> dict[tuple[str, ...], Any]:
    """Return a run's settings by path, but for those that a resumed run may be given anew."""
    found = {key: value for key, value in leaves(config.model_dump()) if flag(key) not in (*ANEW, "--output")}
    settings = {key: value.resolve() if isinstance(value, Path) else value for key, value in found.items()}
    shared, path = f"{config.method}-seed{config.seed}", settings.get(("teacher", "path"))
    if isinstance(path, Path) and path.parent.name.endswith(f"-seed{config.seed}") and path.parent.name != shared:
        settings["teacher", "path"] = Path(path.parent.name, path.name)  # of the series, which may have moved
    return settings


def _anew(arguments: Sequence[str], config: RunConfig) -> list[str]:
    """Return the arguments that a resumed run may be given anew and that count in it, each with its value."""
    found: list[str] = []
    for number, word in enumerate(arguments):
        name, equals, _ = word.partition("=")
        if name in ANEW and attrgetter(name[2:].replace("-", "_"))(config) is not None:
            found += [word] if equals else arguments[number : number + 2]
    return found


def _members(arguments: Sequence[str], extras: Extras, first: Request, folder: Path) -> Iterator[Member]:
    """Yield every run; a method that trains the same teacher as the first one takes that one's.

    A rival gets the options that it has; those of the first method's own that it lacks are left out.
    """
    seeds = extras.seeds or (first.config.seed,)
    known = [NO_GUARD, *OBJECTIVES, *sorted({entry.name for entry in catalogue()} - {first.config.method})]
    for seed in seeds:
        own = f"{first.config.method}-seed{seed}"
        yield Member(own, _request(arguments, seed, folder / own))
        for name in extras.compare:
            if name == first.config.method:
                raise ConfigError(f"{name} is the method itself (--compare)", do="Name what to compare it with.")
            if name not in known:
                raise near_rival(name, known)
            if name in OBJECTIVES and not _has_teacher(first.config.method):
                raise ConfigError(
                    f"--compare {name} is for a teacher, and the method {first.config.method} has none",
                    do="Leave it out of --compare; no-guard and other methods can be compared.",
                )
            member = f"{name}-seed{seed}"
            changed, unread = _changed(arguments, name), frozenset[tuple[str, ...]]()
            if name not in (NO_GUARD, *OBJECTIVES):
                unread = _own(first.config.method) - _own(name)
                changed = without(changed, {flag(path) for path in unread})
                shared = trains_the_same(first.config.method, name)
                given = [f"--teacher={folder / own / TEACHER}"] if shared else []
                changed = [*(_without_training(changed) if given or not _has_teacher(name) else changed), *given]
            request = _request(changed, seed, folder / member, unread=unread)
            yield Member(member, request, _left_out(arguments, request.config, unread))


def _changed(arguments: Sequence[str], name: str) -> list[str]:
    """Return the arguments of the run to compare with."""
    if name == NO_GUARD:
        return [*arguments, "--no-guard"]
    if name in OBJECTIVES:
        return [*arguments, "--teacher.training", name]
    return [*without_method(arguments), "--method", name]


def _own(method: str) -> frozenset[tuple[str, ...]]:
    """Return the paths of a method's own options."""
    return frozenset(fields_of(PluginHost(only=[method]).method(method).Config))


def _left_out(arguments: Sequence[str], config: RunConfig, unread: Collection[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the flags that were given and that a run does not use: those it lacks, and those idle in it.

    How a teacher is trained does not count, since it was trained so in the first run, unless this run trains its own.
    """
    host = PluginHost(only=[config.method], files=list(config.plugin))
    idle = idle_settings(config, host.method(config.method), host.datasets[config.dataset])
    counted = [one for one in idle if one.path[0] != "teacher" or one.cause == ("teacher", "training")]
    unused = {flag(path) for path in unread} | {flag(one.path) for one in counted}
    return tuple(dict.fromkeys(word.split("=")[0] for word in arguments if word.split("=")[0] in unused))


def _without_training(arguments: Sequence[str]) -> list[str]:
    """Drop how the teacher is trained, since it is there already."""
    flags = {word.split("=")[0] for word in arguments if word.startswith("--teacher.")}
    return without(arguments, flags - {"--teacher.network", "--teacher.activation"})


def _request(
    arguments: Sequence[str], seed: int, output: Path, *, unread: Collection[tuple[str, ...]] | None = None
) -> Request:
    return parse([*without(arguments, ("--output", "--seed")), f"--seed={seed}", f"--output={output}"], unread=unread)


def _has_teacher(name: str) -> bool:
    return PluginHost(only=[name]).method(name).uses_teacher


def trains_the_same(method: str, other: str) -> bool:
    """Say whether two methods train their teachers in the same loop."""
    one, two = (PluginHost(only=[name]).method(name) for name in (method, other))
    return one.uses_teacher and two.uses_teacher and one.train_teacher is two.train_teacher
