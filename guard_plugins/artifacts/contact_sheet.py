"""One picture of a distilled set: a row of images for every class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from guard_plugins.artifacts.atomic import replacing

if TYPE_CHECKING:
    from guard_plugins.data.distilled import DistilledSet

COLUMNS = 10
ROWS = 20
SIDE = 64


def save_contact_sheet(path: Path, distilled: DistilledSet) -> None:
    """Write a PNG with up to 10 images of each of the first 20 classes, enlarged without smoothing.

    Raises:
        ArtifactError: If the file cannot be written.
    """
    import torch  # here, since the report page reads the layout above and needs no torch

    images, labels = distilled.images, distilled.labels
    shown = [torch.nonzero(labels == label).flatten()[:COLUMNS] for label in labels.unique()[:ROWS].tolist()]
    channels, height, width = images.shape[1:]
    scale = max(1, SIDE // height)
    sheet = torch.ones(channels, len(shown) * (height + 1), max(map(len, shown)) * (width + 1))
    for row, members in enumerate(shown):
        for column, index in enumerate(members.tolist()):
            top, left = row * (height + 1), column * (width + 1)
            sheet[:, top : top + height, left : left + width] = images[index]
    pixels = (sheet.expand(3, -1, -1) if channels == 1 else sheet).mul(255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    with replacing(path) as part:
        picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(part, "PNG")
