"""The folders of SRe2L, CDA and their kin: ``new000/class000_id000.jpg``, one folder a class."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from guard_plugins.artifacts.atomic import made, replacing
from guard_plugins.artifacts.sets.distilled import LARGEST, DistilledSetError
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.images.whole import require_whole
from guard_plugins.files import regular

NAME: Final = re.compile(r"class(\d{1,9})_id(\d{1,9})\.(?:jpg|jpeg|png)", re.IGNORECASE)


def read_sre2l(folder: Path) -> DistilledSet:
    """Return the images of a folder, in the order of their copies, then classes; grey only if every file is.

    Raises:
        DistilledSetError: If there are none, one cannot be read or is there twice, or they differ in size.
    """
    found = sre2l_files(folder)
    if not found:
        raise DistilledSetError(
            f"{folder} is not a folder of SRe2L's format",
            do="It must hold folders with files called class000_id000.jpg (or .png).",
        )
    for (*one, path), (*other, again) in pairwise(found):
        if one == other:
            raise DistilledSetError(
                f"The image class {one[1]}, number {one[0]} is in {folder} twice",
                seen=f"{path.relative_to(folder)} and {again.relative_to(folder)}",
                do="Keep one of the two; a PNG is the exact one.",
            )
    images = [_pixels(path) for _, _, path in found]
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise DistilledSetError(f"The images in {folder} differ in size", seen=", ".join(map(str, sorted(sizes)[:3])))
    grey = all(image.ndim == 2 for image in images)
    channels = 1 if grey else 3
    stacked = np.stack(
        [np.broadcast_to(image.reshape(*image.shape[:2], -1), (*image.shape[:2], channels)) for image in images]
    )
    pixels = torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 255
    return DistilledSet(pixels.contiguous(), torch.tensor([label for _, label, _ in found]))


def sre2l_files(folder: Path) -> list[tuple[int, int, Path]]:
    """Return copy, class and path of every image of this layout in a folder, in the order of copies, then classes."""
    return sorted((int(m[2]), int(m[1]), path) for path in folder.glob("*/*") if (m := NAME.fullmatch(path.name)))


def write_sre2l(folder: Path, distilled: DistilledSet) -> None:
    """Write a distilled set in this layout, as PNG: every reader of the layout takes it, and JPEG costs 16/255 a pixel.

    Raises:
        ArtifactError: If something cannot be written.
    """
    copies: dict[int, int] = {}
    pixels = (distilled.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    for image, label in zip(pixels, distilled.labels.tolist(), strict=True):
        copy = copies[label] = copies.get(label, -1) + 1
        path = folder / f"new{label:03d}" / f"class{label:03d}_id{copy:03d}.png"
        made(path.parent)
        with replacing(path) as part:
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(part, "PNG")


def _pixels(path: Path) -> np.ndarray[Any, Any]:
    """Return bytes (H, W) of a grey image, (H, W, 3) of any other."""
    try:
        with Image.open(regular(path), formats=["JPEG", "PNG"]) as image:
            if image.width * image.height > LARGEST:
                raise ValueError(f"it claims {image.width} x {image.height} pixels")
            require_whole(image, path)
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"its mode is {image.mode}, deeper than the 8 bits of this layout")
            return np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DistilledSetError(f"Cannot read the image {path}", seen=f"{type(error).__name__}: {error}") from error
