"""Hugging Face data sets on disk, Parquet or Arrow: images as encoded bytes, labels as whole numbers."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from guard_plugins.artifacts.atomic import replacing
from guard_plugins.artifacts.formats.tensors import classes_and_logits
from guard_plugins.artifacts.sets.distilled import DistilledSetError
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.images.decode import decode
from guard_plugins.data.images.tables import Rows, need_pyarrow, read_rows, table_files
from guard_plugins.data.images.target import Target
from guard_plugins.errors import DataError

SOFT: Final = "soft_labels"
"""Column of the logits, as :func:`write_parquet` writes it."""


def read_parquet(path: Path) -> DistilledSet:
    """Return the set of a ``.parquet`` or ``.arrow`` file, or of a folder of them.

    Raises:
        DistilledSetError: If pyarrow is missing, something is damaged, or columns or images are not as they should be.
    """
    try:
        rows = read_rows(table_files(path), extra=(SOFT,))
        target = _target(rows, path)
        pixels = np.stack([decode(content, target, name) for content, name in rows.images])
    except DataError as error:
        raise DistilledSetError(error.what, seen=error.seen, do=error.do) from error
    soft = rows.extra.get(SOFT)
    labels, logits = torch.from_numpy(rows.labels), None
    if soft is not None:
        try:
            stored = torch.tensor(soft, dtype=torch.float32)
        except (TypeError, ValueError) as error:
            raise DistilledSetError(f"The soft labels in {path} are not rows of numbers", seen=str(error)) from error
        _, logits = classes_and_logits(stored, len(labels), path)
    return DistilledSet(torch.from_numpy(pixels).float() / 255, labels, logits)


def write_parquet(path: Path, distilled: DistilledSet, classes: Sequence[str]) -> None:
    """Write a set as one Parquet file that ``datasets.load_dataset`` reads with an image and a class-label column.

    Args:
        path: The file.
        distilled: The set; its images are stored as PNG, so pixels are rounded to 8 bits.
        classes: Names of the classes.

    Raises:
        ConfigError: If pyarrow is missing.
        ArtifactError: If the file cannot be written.
    """
    arrow, parquet = need_pyarrow()
    images = [{"bytes": _png(image), "path": None} for image in _as_bytes(distilled)]
    struct = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    columns = {"image": arrow.array(images, struct), "label": arrow.array(distilled.labels.tolist(), arrow.int64())}
    features: dict[str, Any] = {
        "image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"},
    }  # fmt: skip
    if distilled.soft_labels is not None:
        columns[SOFT] = arrow.array(distilled.soft_labels.tolist(), arrow.list_(arrow.float32()))
        features[SOFT] = {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "Sequence"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    with replacing(path) as part:
        parquet.write_table(arrow.table(columns).replace_schema_metadata(metadata), part)


def _target(rows: Rows, path: Path) -> Target:
    """Return size and channels of the images; grey only if all are.

    Raises:
        DistilledSetError: If there are none, or they differ in size.
    """
    sizes = {(header.height, header.width) for header in rows.headers}
    if len(sizes) != 1:
        raise DistilledSetError(
            f"The images in {path} differ in size" if sizes else f"There are no images in {path}",
            seen=", ".join(map(str, sorted(sizes)[:3])),
        )
    ((height, width),) = sizes
    return Target(channels=1 if all(header.grey for header in rows.headers) else 3, height=height, width=width)


def _as_bytes(distilled: DistilledSet) -> np.ndarray[Any, Any]:
    return (distilled.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def _png(image: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()
