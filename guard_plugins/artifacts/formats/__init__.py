"""Reading and writing the distilled sets of other code bases; ``docs/formats.md`` describes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from guard_plugins.artifacts.formats.dc import read_dc, write_dc
from guard_plugins.artifacts.formats.dd_ranking import IMAGES, LABELS, read_dd_ranking, write_dd_ranking
from guard_plugins.artifacts.formats.foreign import require_known_ending
from guard_plugins.artifacts.formats.npz import read_npz
from guard_plugins.artifacts.formats.pairs import pair_in, read_pair, require_one_image_each
from guard_plugins.artifacts.formats.parquet import read_parquet, write_parquet
from guard_plugins.artifacts.formats.sre2l import read_sre2l, sre2l_files, write_sre2l
from guard_plugins.artifacts.formats.torch_files import read_torch
from guard_plugins.artifacts.formats.trajectory import read_trajectory, trajectory_file
from guard_plugins.artifacts.formats.unfinished import require_finished, whole
from guard_plugins.artifacts.sets.distilled import (
    METADATA,
    TENSORS,
    DistilledSetError,
    class_names,
    load_distilled,
    load_pngs,
)
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.images.tables import TABLES, read_rows, table_files
from guard_plugins.errors import DataError

__all__ = [
    "named_classes", "read_any", "read_dc", "read_dd_ranking", "read_npz", "read_parquet", "read_sre2l",
    "read_trajectory", "whole", "write_dc", "write_dd_ranking", "write_parquet", "write_sre2l",
]  # fmt: skip

_FORMATS: Final = (
    "Give a run (its folder holds distilled/ once images are made), or distilled images: a folder with "
    f"{METADATA} as guard-run writes it, with folders of class000_id000.jpg (SRe2L, CDA), with {IMAGES} (DD-Ranking), "
    "with images_best.pt (MTT, FTD, DATM, TESLA) or with .parquet files; or a file: .pt (DC, or [images, labels]), "
    ".npz or .parquet. docs/formats.md lists what is read."
)


def read_any(path: Path, *, mean: Sequence[float], std: Sequence[float]) -> DistilledSet:
    """Return the distilled set at ``path``, whichever known format it has.

    Args:
        path: A folder or file in one of the formats of ``docs/formats.md``.
        mean: Per-channel mean of the data set, for files whose images are normalised.
        std: Per-channel standard deviation, likewise.

    Raises:
        DistilledSetError: If there is nothing, or nothing readable.
    """
    require_finished(path)
    if (trajectory := trajectory_file(path)) is not None:
        return read_trajectory(trajectory, mean=mean, std=std)
    return _read_file(path, mean, std) if path.is_file() else _read_folder(path)


def named_classes(path: Path) -> dict[int, str]:
    """Return the names of a set's classes by label, where its format has names and they can be read.

    Args:
        path: As for :func:`read_any`.
    """
    files = table_files(path)
    if not files:
        return class_names(path)
    try:
        return dict(enumerate(read_rows(files).classes or ()))
    except DataError:
        return {}


def _read_file(path: Path, mean: Sequence[float], std: Sequence[float]) -> DistilledSet:
    ending = path.suffix.lower()
    require_known_ending(path)
    if ending in TABLES:
        return read_parquet(path)
    if ending == ".npz":
        return read_npz(path, mean=mean, std=std)
    pair = pair_in(read_torch(path))
    if pair is None:
        return read_dc(path, mean=mean, std=std)
    require_one_image_each(path)
    images, labels = pair
    return read_pair(images, labels, path, mean=mean, std=std)


def _read_folder(path: Path) -> DistilledSet:
    if (path / TENSORS).exists():
        return load_distilled(path)
    if (path / METADATA).exists():
        return load_pngs(path).as_floats()
    if (path / IMAGES).exists() or (path / LABELS).exists():
        return read_dd_ranking(path)
    if sre2l_files(path):
        return read_sre2l(path)
    if table_files(path):
        return read_parquet(path)
    raise DistilledSetError(f"{path} holds no distilled set of a known format", do=_FORMATS)
