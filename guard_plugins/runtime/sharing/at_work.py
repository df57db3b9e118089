"""Whether processes are making shares of a run."""

from __future__ import annotations

import time

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.errors import ConfigError
from guard_plugins.runtime.sharing.claims import holder
from guard_plugins.runtime.sharing.shares import listed


def require_no_shares(folder: RunFolder, *, patience: float = 0.0) -> None:
    """Return if no share of a run is being made.

    Args:
        folder: The run's folder.
        patience: Seconds to wait for it: on other hosts, only time tells that a process was killed.

    Raises:
        ConfigError: If one is.
    """
    end = time.monotonic() + patience
    while (at_work := _at_work(folder)) and time.monotonic() < end:
        time.sleep(1.0)
    if at_work:
        raise ConfigError(
            f"Shares of the run in {folder.path} are being made",
            seen=f"{listed(sorted(at_work))}: {', '.join(sorted(set(at_work.values())))}",
            do="Wait until all are done, then resume the run.",
        )


def _at_work(folder: RunFolder) -> dict[str, str]:
    """Return who is at work on which item."""
    claims = folder.checkpoints.glob("*.claim")
    return {path.stem.rsplit("-", 1)[0]: who for path in claims if (who := holder(path))}
