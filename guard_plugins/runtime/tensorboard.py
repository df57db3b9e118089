"""``--log tensorboard``: the numbers of every loop as curves, by a callback like any of a user's own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from guard_plugins.errors import ConfigError
from guard_plugins.runtime.monitor import Callback


def require_tensorboard() -> None:
    """Refuse ``--log tensorboard`` where it cannot work.

    Raises:
        ConfigError: If the package is not installed.
    """
    if find_spec("tensorboard") is None:
        raise ConfigError(
            "--log tensorboard needs the package tensorboard, which is not installed",
            do="pip install tensorboard, or leave --log out: events.jsonl is always written.",
        )


def tensorboard(folder: Path) -> Callback:
    """Return a callback that writes the curves of a run for ``tensorboard --logdir FOLDER``.

    Args:
        folder: Where TensorBoard's files go.
    """
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder))  # type: ignore[no-untyped-call]

    def heard(event: Mapping[str, Any]) -> None:
        if event["event"] == "step":
            for name, value in event["numbers"].items():
                writer.add_scalar(f"{event['loop']}/{name}", value, event["step"])
        elif event["event"] == "validation":
            for name in ("clean", "robust"):
                writer.add_scalar(f"{event['loop']}/validation {name}", event[name], event["step"])
        elif event["event"] == "stage ends":
            writer.add_scalar(f"seconds/{event['stage']}", event["seconds"], 0)
            writer.flush()

    return heard
