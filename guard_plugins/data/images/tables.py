"""Hugging Face data sets on disk: Parquet and Arrow files with a column of encoded images and one of labels.

Read with pyarrow alone: the files hold everything, and the library ``datasets`` would bring fifteen packages, a cache
folder and network access for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from guard_plugins.data.images.decode import Header, read_header
from guard_plugins.errors import DataError
from guard_plugins.files import regular

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TABLES: Final = (".parquet", ".arrow")
"""Endings of the files that are read."""

_IMAGES: Final = ("image", "img", "images", "jpg", "png")
_LABELS: Final = ("label", "labels", "fine_label", "target", "class")


@dataclass(frozen=True)
class Rows:
    """Images and labels of one or several files.

    Attributes:
        images: Encoded images, each with what messages call it.
        labels: Class indices, int64 of shape (N,).
        classes: Names of the classes, where the files have them.
        extra: Further columns that were asked for and are there.
    """

    images: list[tuple[bytes, str]]
    labels: NDArray[np.int64]
    classes: tuple[str, ...] | None
    extra: dict[str, list[Any]]

    @cached_property
    def headers(self) -> list[Header]:
        """Size and kind of every image."""
        return [read_header(content, name) for content, name in self.images]


def need_pyarrow() -> tuple[Any, Any]:
    """Return the modules ``pyarrow`` and ``pyarrow.parquet``.

    Raises:
        DataError: If pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            "Parquet and Arrow files need the package pyarrow, which is not installed.", seen=str(error),
            do="pip install 'guard-plugins[datasets]'",
        ) from error  # fmt: skip
    return pyarrow, parquet


def table_files(path: Path) -> list[Path]:
    """Return the Parquet or Arrow files of a path, sorted: the file, or those in a folder or in its ``data/``."""
    if path.is_file():
        return [path] if path.suffix.lower() in TABLES else []
    for folder in (path, path / "data"):
        for ending in TABLES:
            if found := sorted(folder.glob(f"*{ending}")):
                return found
    return []


def read_rows(files: Sequence[Path], *, extra: Sequence[str] = ()) -> Rows:
    """Return the rows of files that belong together, in order.

    Args:
        files: Parquet or Arrow files with the same columns.
        extra: Further columns to read where they are there.

    Raises:
        DataError: If pyarrow is missing, a file is damaged, or there is no column of images or of labels.
    """
    arrow, parquet = need_pyarrow()
    try:
        tables = [_table(path, arrow, parquet) for path in files]
        table = arrow.concat_tables(tables)
        table.validate(full=True)
        image, label = _columns(table.schema, arrow, files[0])
        contents = [_content(value) for value in table.column(image).to_pylist()]
        labels = table.column(label).to_pylist()
        further = {name: table.column(name).to_pylist() for name in extra if name in table.column_names}
    except (arrow.ArrowException, OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(f"{files[0]} cannot be read.", seen=f"{type(error).__name__}: {reason}") from error
    missing = next((n for n, content in enumerate(contents) if not content), None)
    if missing is not None:
        raise DataError(
            f"The images of {files[0]} are not in the file.", seen=f"row {missing} of column {image!r} has no bytes",
            do="Save the set with its images embedded: datasets' save_to_disk or to_parquet after embedding them.",
        )  # fmt: skip
    images = [(bytes(content), f"in row {n} of {files[0].name}") for n, content in enumerate(contents)]
    return Rows(images, *_labels(labels, _class_names(table.schema, label), files[0]), further)


def _table(path: Path, arrow: Any, parquet: Any) -> Any:
    if path.suffix.lower() == ".parquet":
        return parquet.read_table(regular(path), partitioning=None)
    content = regular(path).read_bytes()  # not mapped: a file that is cut short meanwhile would end the process
    try:
        return arrow.ipc.open_stream(content).read_all()
    except arrow.ArrowInvalid:
        return arrow.ipc.open_file(content).read_all()


def _features(schema: Any) -> dict[str, Any]:
    """Return what the library ``datasets`` wrote of the columns' types, or nothing."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return {name: kind for name, kind in found.items() if isinstance(kind, dict)} if isinstance(found, dict) else {}


def _columns(schema: Any, arrow: Any, path: Path) -> tuple[str, str]:
    """Return the names of the columns of images and of labels."""
    kinds, features = {field.name: field.type for field in schema}, _features(schema)
    images = [name for name, kind in kinds.items() if _holds_images(kind, arrow)]
    labels = [name for name in kinds if features.get(name, {}).get("_type") == "ClassLabel" or name in _LABELS]
    image = next((name for name in _IMAGES if name in images), images[0] if images else None)
    label = next((name for name in _LABELS if name in labels), labels[0] if labels else None)
    if image is None or label is None:
        raise DataError(
            f"{path} has no column of {'images' if image is None else 'labels'}.",
            seen=f"columns: {', '.join(list(kinds)[:8]) or 'none'}",
            do=f"Name the columns {_IMAGES[0]} (encoded images) and {_LABELS[0]} (class indices).",
        )
    return image, label


def _holds_images(kind: Any, arrow: Any) -> bool:
    if arrow.types.is_struct(kind):
        return "bytes" in {kind.field(n).name for n in range(kind.num_fields)}
    return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))


def _content(value: Any) -> Any:
    return value.get("bytes") if isinstance(value, dict) else value


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    names = _features(schema).get(label, {}).get("names")
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def _labels(
    values: list[Any], names: tuple[str, ...] | None, path: Path
) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:  # fmt: skip
    """Return class indices and names; labels that are text become the indices of their sorted values.

    Raises:
        DataError: If they are neither whole numbers from 0 nor text.
    """
    if values and all(isinstance(value, str) for value in values):
        names = tuple(sorted(set(values)))
        index = {name: n for n, name in enumerate(names)}
        return np.array([index[value] for value in values], np.int64), names
    if not values or not all(type(value) is int and 0 <= value < 2**31 for value in values):
        wrong = next((value for value in values if type(value) is not int or not 0 <= value < 2**31), "no rows")
        raise DataError(f"The labels in {path} are not class indices from 0.", seen=str(wrong)[:60])
    return np.array(values, np.int64), names
