"""A data set by name, from Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from guard_plugins.data.base import DataRequest
from guard_plugins.host import PluginHost
from guard_plugins.runtime.engine import ordinary

if TYPE_CHECKING:
    from guard_plugins.data.base import Data


def load_data(
    name: str, root: str | Path | None = None, *, image_size: int | None = None, download: bool = False
) -> Data:
    """Return a data set, as ``--dataset`` and ``--data-root`` name one.

    Args:
        name: A registered data set, such as ``digits`` or ``folder``.
        root: Folder of its files.
        image_size: Side in pixels to resize to; None for the size the images have.
        download: Whether it may be downloaded.

    Raises:
        ConfigError: If there is no such data set.
        DataError: If the files are missing or malformed.
    """
    known = PluginHost(only=[]).datasets
    datasets = known if name in known else PluginHost().datasets
    request = DataRequest(root=Path(root).expanduser() if root else None, download=download, image_size=image_size)
    with ordinary():
        return datasets[name]().load(request)
