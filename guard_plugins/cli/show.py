"""What guard-run prints at the end of a run."""

from __future__ import annotations

import shutil
import sys

from guard_plugins.attacks.base import display_names
from guard_plugins.config import RunConfig
from guard_plugins.config.schema import Level
from guard_plugins.host.configure import host_of
from guard_plugins.pipeline.run import Done
from guard_plugins.report.markdown import table
from guard_plugins.report.terminal import summary


def show(done: Done, config: RunConfig, *, level: Level) -> None:
    """Print what a run ended with: a table on a terminal, Markdown where it is piped.

    Args:
        done: What the run left.
        config: Its configuration.
        level: How much is said beside it.
    """
    if done.report is None:
        sys.stdout.write(f"{done.folder}\n")
    elif sys.stdout.isatty():
        width, names = shutil.get_terminal_size().columns, display_names(host_of(config).attacks)
        sys.stdout.write(f"\n{summary(done.report, width=width, names=names)}\n\n")
        sys.stdout.write(_where(done))
    else:
        sys.stdout.write(table(done.report) + "\n")
        if level != "quiet":
            sys.stderr.write(_where(done))


def _where(done: Done) -> str:
    return f"report: {done.folder / 'report.html'}\nimages: {done.folder / 'distilled'}\n"
