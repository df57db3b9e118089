"""The folders of SRe2L, CDA and their kin: ``new000/class000_id000.jpg``, one folder a class."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from guard_plugins.artifacts.atomic import made, replacing
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.errors import ArtifactError

NAME: Final = re.compile(r"class(\d+)_id(\d+)\.(?:jpg|jpeg|png)", re.IGNORECASE)


def read_sre2l(folder: Path) -> DistilledSet:
    """Return the images of a folder, in the order of their copies, then classes.

    Raises:
        ArtifactError: If there are none, one cannot be read, or they differ in size.
    """
    found = sre2l_files(folder)
    if not found:
        raise ArtifactError(
            f"{folder} is not a folder of SRe2L's format",
            do="It must hold folders with files called class000_id000.jpg (or .png).",
        )
    images = [_pixels(path) for _, _, path in found]
    sizes = {tuple(image.shape) for image in images}
    if len(sizes) > 1:
        raise ArtifactError(f"The images in {folder} differ in size", seen=", ".join(map(str, sorted(sizes)[:3])))
    return DistilledSet(torch.stack(images), torch.tensor([label for _, label, _ in found]))


def sre2l_files(folder: Path) -> list[tuple[int, int, Path]]:
    """Return copy, class and path of every image of this layout in a folder, in the order of copies, then classes."""
    return sorted((int(m[2]), int(m[1]), path) for path in folder.glob("*/*") if (m := NAME.fullmatch(path.name)))


def write_sre2l(folder: Path, distilled: DistilledSet) -> None:
    """Write a distilled set in this layout, as PNG: every reader of the layout takes it, and JPEG costs 16/255 a pixel.

    Raises:
        ArtifactError: If something cannot be written.
    """
    copies: dict[int, int] = {}
    pixels = (distilled.images * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()
    for image, label in zip(pixels.numpy(), distilled.labels.tolist(), strict=True):
        copy = copies[label] = copies.get(label, -1) + 1
        path = folder / f"new{label:03d}" / f"class{label:03d}_id{copy:03d}.png"
        made(path.parent)
        with replacing(path) as part:
            Image.fromarray(image).save(part, "PNG")


def _pixels(path: Path) -> Tensor:
    try:
        with Image.open(path) as image:
            values = torch.from_numpy(np.array(image.convert("RGB")))
    except (OSError, Image.DecompressionBombError) as error:
        raise ArtifactError(f"Cannot read the image {path}", seen=f"{type(error).__name__}: {error}") from error
    return values.permute(2, 0, 1).float() / 255
