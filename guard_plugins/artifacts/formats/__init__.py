"""Reading and writing the distilled sets of other code bases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from guard_plugins.artifacts.distilled import METADATA, TENSORS, load_distilled, load_pngs
from guard_plugins.artifacts.formats.dc import read_dc, write_dc
from guard_plugins.artifacts.formats.dd_ranking import IMAGES, read_dd_ranking, write_dd_ranking
from guard_plugins.artifacts.formats.sre2l import read_sre2l, sre2l_files, write_sre2l
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ArtifactError

__all__ = [
    "read_any", "read_dc", "read_dd_ranking", "read_sre2l", "write_dc", "write_dd_ranking", "write_sre2l",
]  # fmt: skip

_FORMATS: Final = (
    "Give a run (its folder holds distilled/ once images are made), or distilled images: a folder with "
    f"{METADATA} as guard-run writes it, with folders of class000_id000.jpg (SRe2L, CDA), or with {IMAGES} "
    "(DD-Ranking); or a .pt file (DC)."
)


def read_any(path: Path, *, mean: Sequence[float], std: Sequence[float]) -> DistilledSet:
    """Return the distilled set at ``path``, whichever known format it has.

    Args:
        path: A folder of ours, of SRe2L's layout or with ``images.pt``, or a ``.pt`` file of DC's format.
        mean: Per-channel mean of the data set; DC's files are normalised.
        std: Per-channel standard deviation, likewise.

    Raises:
        ArtifactError: If there is nothing, or nothing readable.
    """
    if path.is_file():
        return read_dc(path, mean=mean, std=std)
    if (path / TENSORS).exists():
        return load_distilled(path)
    if (path / METADATA).exists():
        return load_pngs(path)
    if (path / IMAGES).exists():
        return read_dd_ranking(path)
    if not sre2l_files(path):
        raise ArtifactError(f"{path} holds no distilled set of a known format", do=_FORMATS)
    return read_sre2l(path)
