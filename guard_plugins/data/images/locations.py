"""Where data sets lie, and what to say when they do not."""

from __future__ import annotations

from pathlib import Path

from guard_plugins.data.base import DataRequest
from guard_plugins.errors import DataError


def data_root(request: DataRequest) -> Path:
    """Return the requested folder, or ``~/.cache/guard-plugins/data`` where none was given.

    Raises:
        DataError: If none was given and there is no home folder.
    """
    try:
        return (request.root or Path("~/.cache/guard-plugins/data")).expanduser()
    except RuntimeError:
        raise DataError(
            "It is not known where data sets lie: this account has no home folder",
            do="Name the folder with --data-root, or set HOME.",
        ) from None


def missing_set(
    name: str, looked: Path, *, seen: str, downloadable: bool = True, hint: str = "", holds: str = ""
) -> DataError:
    """Return the error for a data set whose files are not where they should be.

    Args:
        name: The data set.
        looked: Folder that should hold its files.
        seen: What was found there.
        downloadable: Whether ``--download`` can fetch it.
        hint: A likelier remedy than the general one, put first.
        holds: What ``--data-root`` should hold, if not the folder ``looked``.
    """
    fetch = "Pass --download to fetch it, or " if downloadable else ""
    point = f"{fetch}--data-root with the folder that holds {holds or looked.name + '/'}."
    point = point if downloadable else f"Pass {point}"
    return DataError(
        f"The data set {name} is not there.", seen=f"looked in {looked}: {seen}", do=f"{hint} {point}".strip()
    )


def failed_download(name: str, root: Path, error: BaseException) -> DataError:
    """Return the error for a download that did not succeed.

    Args:
        name: The data set.
        root: Where it was to go.
        error: What went wrong.
    """
    return DataError(
        f"The data set {name} could not be downloaded to {root}.",
        seen=f"{type(error).__name__}: {error}",
        do="Check the network and the free space, delete a half-written archive there, and try again.",
    )
