"""What guard-run's command line asks for beside settings of a run: how much it says, where it stops, what it lists."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guard_plugins.config.nearest import nearest
from guard_plugins.config.schema import Level
from guard_plugins.config.sources import Parser
from guard_plugins.errors import ConfigError

HELPER: Final = "guard_plugins.pipeline.processes.helper"
"""The module that a further process of a run runs."""
RUNS: Final = Path("runs")
"""Where runs without --output go, and where ``--resume`` alone looks."""
_WORDS: Final = ("list", "help", "version", "resume", "completion", "compare", "seeds")
"""Flags that people type as if they were commands."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What is asked for.

    Attributes:
        level: How much is said on the terminal.
        stop_after: The last stage to do, or None for all.
        seeds: Seeds of a series of runs; empty for one run.
        compare: Rivals to run beside it.
        processes: Processes of a run on a CPU, or None for as many as suit it.
        listing: Whether to list what is installed.
        completion: The shell to write a completion script for, or None.
    """

    level: Level = "normal"
    stop_after: str | None = None
    seeds: tuple[int, ...] = ()
    compare: tuple[str, ...] = ()
    processes: int | None = None
    listing: bool = False
    completion: str | None = None

    @property
    def series(self) -> bool:
        """Whether several runs are asked for."""
        return bool(self.seeds or self.compare)


def take(argv: Sequence[str]) -> tuple[Extras, list[str]]:
    """Return what ``argv`` asks for here, and the arguments that are left; ``--resume`` alone gets the newest run.

    Raises:
        ConfigError: If a value is wrong, or options exclude each other.
    """
    if argv and argv[0] in _WORDS:
        raise ConfigError(f"{argv[0]!r} is no method (guard-run METHOD)", do=f"Did you mean guard-run --{argv[0]}?")
    parser = Parser(add_help=False, allow_abbrev=False)
    add_extras(parser)
    found, rest = parser.parse_known_args(argv)
    if found.quiet and found.verbose:
        raise ConfigError("--quiet and --verbose exclude each other", do="Give one of them.")
    extras = Extras(
        level="quiet" if found.quiet else "verbose" if found.verbose else "normal",
        stop_after=found.stop_after, seeds=_seeds(found.seeds), compare=_names(found.compare),
        processes=found.processes, listing=found.list, completion=found.completion,
    )  # fmt: skip
    if extras.seeds and any(word.partition("=")[0] == "--seed" for word in rest):
        raise ConfigError("--seed would do nothing: --seeds names the seeds of all runs", do="Give one of them.")
    if extras.series and extras.stop_after:
        raise ConfigError(
            "--stop-after leaves nothing to compare (--seeds, --compare)", do="Leave it out, or do one run."
        )
    _refuse_beside(extras, rest)
    return extras, _newest_resumed(rest)


def _refuse_beside(extras: Extras, rest: Sequence[str]) -> None:
    """Refuse options that a plan or a share of a stage would pass over."""
    given = {
        "--stop-after": extras.stop_after,
        "--seeds": extras.seeds,
        "--compare": extras.compare,
        "--processes": extras.processes,
    }
    idle = next((flag for flag, value in given.items() if value), None)
    part = next((flag for flag in (word.split("=")[0] for word in rest) if flag in ("--plan", "--shard")), None)
    if idle and part:
        raise ConfigError(f"{idle} would do nothing beside {part}", do="Leave one of them out.")


def add_extras(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser, in a group of their own."""
    group = parser.add_argument_group("what to do")
    group.add_argument("--list", action="store_true", help="list methods and presets, and stop")
    group.add_argument("--quiet", action="store_true", help="print the final table and failures only")
    group.add_argument("--verbose", action="store_true", help="print every check of the release gate, too")
    group.add_argument(
        "--stop-after",
        choices=("teacher", "distill", "relabel", "students"),
        help="end after this stage; --resume does the rest",
    )
    group.add_argument("--seeds", metavar="0-4", help="do one run for each seed, and write a page that compares them")
    group.add_argument(
        "--compare", metavar="NAMES", help="do the same run again for each of these, and write a page that "
        "compares them: no-guard, a rival of the hook (fgsm-rs, pgd, trades, gradient-norm), or another method",
    )  # fmt: skip
    group.add_argument(
        "--processes", type=_count, metavar="N", help="processes of a run on a CPU; the further ones take some "
        "students and attacks (default: 2 where a core is idle and images have 64 pixels a side at most, else 1)",
    )  # fmt: skip
    group.add_argument(
        "--completion", choices=("bash", "zsh", "fish"), metavar="SHELL",
        help="print a completion script for bash, zsh or fish, and stop",
    )  # fmt: skip


def _count(text: str) -> int:
    """Read a number of processes."""
    if not re.fullmatch(r"[1-9]\d{0,2}", text):
        raise ConfigError(f"{text!r} is no number of processes (--processes)", do="Give a whole number from 1 to 999.")
    return int(text)


def newest_run() -> Path:
    """Return the run in ``runs/`` that was at work last.

    Raises:
        ConfigError: If there is none.
    """
    found = [path.parent for path in RUNS.glob("**/config.yaml")]
    if not found:
        raise ConfigError(
            "There is no run to resume in runs/ (--resume)", do="Give the folder of the run: guard-run --resume DIR"
        )
    return max(found, key=_last_work)


def no_run_in(path: Path) -> ConfigError:
    """Return the error for a folder to resume that holds no run, or the runs of a series."""
    runs = sorted(config.parent for config in path.glob("*/config.yaml"))
    series = (
        "It holds several runs: to go on with a series, give its command again (guard-run METHOD --seeds ... --output "
        f"{path}); to go on with one run, give its folder, such as {runs[0]}."
    ) if runs else ""  # fmt: skip
    return ConfigError(
        f"There is no run to resume in {path} (--resume)", seen=f"{path / 'config.yaml'} is missing",
        do=series or "Give the folder of an earlier run, such as runs/sre2l-digits-...",
    )  # fmt: skip


def _last_work(run: Path) -> float:
    times = [0.0]
    for name in ("config.yaml", "events.jsonl"):
        with contextlib.suppress(OSError):
            times.append((run / name).stat().st_mtime)
    return max(times)


def _newest_resumed(argv: Sequence[str]) -> list[str]:
    words = list(argv)
    for n, word in enumerate(words):
        if word == "--resume" and (n + 1 == len(words) or words[n + 1].startswith("-")):
            return [*words[:n], f"--resume={newest_run()}", *words[n + 1 :]]
    return words


def _seeds(text: str | None) -> tuple[int, ...]:
    """Read ``0-4`` or ``0,2,5`` or both mixed."""
    if text is None:
        return ()
    found: list[int] = []
    for part in text.split(","):
        numbers = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        if numbers is None:
            raise ConfigError(f"{text!r} are no seeds (--seeds)", do="Give a range or a list, such as 0-4 or 0,2,5.")
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if last - first >= 1000:
            raise ConfigError(f"{text!r} are {last - first + 1} runs (--seeds)", do="Give at most a thousand.")
        found += range(first, last + 1)
    if len(found) != len(set(found)) or not found:
        raise ConfigError(f"{text!r} names a seed twice, or none (--seeds)", do="Give every seed once, such as 0-4.")
    return tuple(found)


def _names(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) != len(names):
        raise ConfigError(
            f"{text!r} names something twice, or nothing (--compare)", do="Give names such as no-guard,fgsm-rs."
        )
    return names


def near_rival(name: str, known: Sequence[str]) -> ConfigError:
    """Return the error about a name that ``--compare`` does not know."""
    near = nearest(name, known)
    return ConfigError(
        f"There is nothing called {name!r} to compare with (--compare)", seen=f"known: {', '.join(known)}",
        do=f"Did you mean {near!r}?" if near else "Pick one of these.",
    )  # fmt: skip


def without(arguments: Sequence[str], flags: Collection[str]) -> list[str]:
    """Return arguments without some flags and their values."""
    kept: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word.split("=")[0] not in flags:
            kept.append(word)
        elif "=" not in word and words and not words[0].startswith("--"):
            words.pop(0)
    return kept


def without_method(arguments: Sequence[str]) -> list[str]:
    """Return arguments without the first method, given as a first word or by flag."""
    words = list(arguments)
    if words and not words[0].startswith("-"):
        return words[1:]
    for n, word in enumerate(words):
        if word == "--method":
            return [*words[:n], *words[n + 2 :]]
        if word.startswith("--method="):
            return [*words[:n], *words[n + 1 :]]
    return words
