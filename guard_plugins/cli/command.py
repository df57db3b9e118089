"""What ``guard-run`` is asked to do with a configuration: a run, a part of one, or a plan."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from guard_plugins.cli.paths import path_argument
from guard_plugins.config.sources import Parser
from guard_plugins.errors import ConfigError
from guard_plugins.runtime.sharing.shares import Share

STAGES: Final[Mapping[str, str]] = {"distill": "distill", "relabel": "relabel", "evaluate": "evaluation"}
"""What --stage takes, and the name of the stage: those whose items processes may share."""


class _Once(argparse.Action):
    """Takes a value, and refuses a second one, where both might be expected to count."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        """Keep the value.

        Raises:
            ConfigError: If there is one already.
        """
        first = getattr(namespace, self.dest)
        if first is not None and first != values:
            raise ConfigError(
                f"{option} is given twice: {first} and {values}", do="Give one file; flags win over what it says."
            )
        setattr(namespace, self.dest, values)


def command_options(parser: Parser) -> None:
    """Add the options to a parser."""
    group = parser.add_argument_group("command")
    group.add_argument(
        "--config", action=_Once, type=path_argument, metavar="FILE",
        help="YAML file of settings, such as a run's config.yaml",
    )  # fmt: skip
    group.add_argument(
        "--resume",
        type=path_argument,
        metavar="DIR",
        help="continue a stopped run (default: the newest) with its settings; --checkpoint-every, --log, --plugin, "
        "--teacher.cache, --data.cache and --data.memory may be given anew",
    )
    group.add_argument("--stage", choices=tuple(STAGES), help="with --shard: the stage whose items are made")
    group.add_argument(
        "--shard",
        metavar="I/N",
        help="with --resume and --stage: make every N-th item, from number I (0 to N - 1), beside other such processes",
    )
    group.add_argument(
        "--plan", action="store_true", help="print what the run would take in time, memory and disk, and stop"
    )
    group.add_argument("--gpus", type=int, metavar="N", help="devices of each host that --plan counts on (default: 1)")
    group.add_argument("--hosts", type=int, metavar="M", help="hosts that --plan counts on (default: 1)")
    group.add_argument("--json", action="store_true", help="print the plan as JSON")
    group.add_argument("--print-config", action="store_true", help="print the resolved configuration and stop")
    group.add_argument("--version", action="store_true", help="print the version and stop")


def plan_asked(early: Any) -> tuple[int, int] | None:
    """Return for how many devices and hosts a plan is asked.

    Raises:
        ConfigError: If a number is below one, or is given without ``--plan``.
    """
    given = [flag for flag in ("gpus", "hosts") if getattr(early, flag) is not None]
    if not early.plan and (given or early.json):
        raise ConfigError(
            f"--{(given or ['json'])[0]} is for plans and would do nothing", do="Add --plan, or leave it out."
        )
    low = [flag for flag in given if getattr(early, flag) < 1]
    if low:
        raise ConfigError(f"--{low[0]} must be at least 1", seen=str(getattr(early, low[0])))
    return (early.gpus or 1, early.hosts or 1) if early.plan else None


def share_asked(early: Any) -> Share | None:
    """Return the share of a stage that is asked for.

    Raises:
        ConfigError: If it is none, or one of the two options is missing.
    """
    share = Share.parse(early.shard) if early.shard else None
    if share and not early.stage:
        raise ConfigError("--shard needs --stage", do=f"Give one of {', '.join(STAGES)}.")
    if early.stage and not share:
        raise ConfigError(
            "--stage is for shares and would do nothing", do="Add --shard I/N; --stop-after ends a run after a stage."
        )
    return share
