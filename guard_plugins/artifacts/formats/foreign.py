"""Files of distilled sets that are refused by name, with what would be needed to read them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from guard_plugins.artifacts.sets.distilled import DistilledSetError

_PICKLE: Final = (
    "a pickle, which runs code when it is read; such files are never opened (IDM's sets among them)",
    "Save the tensors where they come from: torch.save([images, labels], 'set.pt').",
)
_ARCHIVE: Final = ("an archive", "Unpack it, and give the folder or file inside.")
_ARRAY: Final = ("one array, without labels", "Save both: numpy.savez('set.npz', images=images, labels=labels).")
_HDF5: Final = ("an HDF5 file", "Save its arrays as numpy.savez('set.npz', images=images, labels=labels).")
_RECORDS: Final = ("TensorFlow records", "Save images and labels as numpy.savez('set.npz', images=..., labels=...).")

_REFUSED: Final = {
    ".pkl": _PICKLE, ".pickle": _PICKLE, ".p": _PICKLE, ".joblib": _PICKLE, ".dill": _PICKLE,
    ".zip": _ARCHIVE, ".tar": _ARCHIVE, ".gz": _ARCHIVE, ".tgz": _ARCHIVE, ".xz": _ARCHIVE, ".7z": _ARCHIVE,
    ".npy": _ARRAY, ".h5": _HDF5, ".hdf5": _HDF5, ".tfrecord": _RECORDS, ".tfrecords": _RECORDS,
}  # fmt: skip


def require_known_ending(path: Path) -> None:
    """Refuse a file whose ending names a container that is not read.

    Raises:
        DistilledSetError: If it is such a file.
    """
    refused = _REFUSED.get(path.suffix.lower())
    if refused:
        raise DistilledSetError(f"{path} is {refused[0]}", do=refused[1])
