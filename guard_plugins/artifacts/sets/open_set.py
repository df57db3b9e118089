"""A distilled set read back in one line of Python."""

from __future__ import annotations

from pathlib import Path

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.sets import distilled
from guard_plugins.config.paths import usable_path
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ConfigError


def load_distilled(path: str | Path) -> DistilledSet:
    """Return the distilled set of a run.

    Args:
        path: A run's folder, its ``distilled/``, or a copy of that, with the exact floats
            (``distilled.safetensors``) or with the PNGs and ``metadata.jsonl`` alone; or one of these two files.

    Returns:
        Images in [0, 1] of shape (N, C, H, W), labels (N,), and what else the method stores.

    Raises:
        ConfigError: If there is no such set.
        DistilledSetError: If it is damaged.
    """
    try:
        folder = usable_path(Path(path))
    except ValueError as error:
        raise ConfigError("There is no distilled set of that name", seen=str(error), do="Give a run.") from None
    wanted = [distilled.TENSORS, distilled.METADATA]
    if folder.name in wanted and folder.is_file():
        folder, wanted = folder.parent, [folder.name]
    else:
        inner = RunFolder(folder).distilled
        folder = inner if inner.is_dir() else folder
    if distilled.TENSORS in wanted and (folder / distilled.TENSORS).is_file():
        return distilled.load_distilled(folder).as_floats()
    if distilled.METADATA in wanted and (folder / distilled.METADATA).is_file():
        return distilled.load_pngs(folder).as_floats()
    raise ConfigError(
        f"There is no distilled set in {path}",
        seen=f"neither {distilled.TENSORS} nor {distilled.METADATA} in {folder}",
        do="Give a run, or the folder distilled/ in it; guard-eval --distilled reads other formats.",
    )
