"""Random augmentations of whole batches, without a loop over the images and differentiable in them.

All numbers are drawn on the CPU from PyTorch's global stream, so a batch is augmented alike on every device. What has
a name (``--student.augment``) is drawn first and applied afterwards, so that it can be made again from stored numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from guard_plugins.data.boxes import Boxes, draw_boxes

AREA: Final = (0.08, 1.0)
"""Share of an image's area that a random box has (Szegedy et al. 2015)."""
ASPECT: Final = (3 / 4, 4 / 3)
"""Its width over its height."""


def random_crop(images: Tensor, *, padding: int) -> Tensor:
    """Return every image shifted by up to ``padding`` pixels each way, zeros coming in at the border.

    Args:
        images: Shape (B, C, H, W).
        padding: Pixels of zeros added on every side before H x W pixels are cut out, as in torchvision's RandomCrop.
    """
    return shift(images, draw_offsets(len(images), padding=padding))


def draw_offsets(count: int, *, padding: int) -> Tensor:
    """Return random offsets for :func:`shift`, each in -padding..padding, int64 of shape (count, 2)."""
    return torch.randint(0, 2 * padding + 1, (2, count)).T - padding


def shift(images: Tensor, offsets: Tensor) -> Tensor:
    """Return the H x W pixels of every image that begin at an offset, zeros where there is no image.

    Args:
        images: Shape (B, C, H, W).
        offsets: First row and column of every window, int64 of shape (B, 2); may be negative.
    """
    batch, channels, height, width = images.shape
    padding = int(offsets.abs().amax()) if offsets.numel() else 0
    corner = (offsets + padding).to(images.device)
    rows = corner[:, :1] + torch.arange(height, device=images.device)
    columns = corner[:, 1:] + torch.arange(width, device=images.device)
    padded = F.pad(images, (padding,) * 4)
    position = rows.unsqueeze(2) * padded.shape[-1] + columns.unsqueeze(1)
    index = position.view(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, index).view_as(images)


def random_horizontal_flip(images: Tensor, *, p: float = 0.5, shared: bool = False) -> Tensor:
    """Return the images (B, C, H, W), each mirrored left to right with probability ``p``.

    Args:
        images: Shape (B, C, H, W).
        p: Probability of a flip.
        shared: Flip all images or none.
    """
    return flip(images, torch.rand(1 if shared else len(images)) < p)


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Return the images (B, C, H, W), mirrored left to right where ``flipped`` (bool of shape (B,) or (1,)) says so."""
    return torch.where(flipped.view(-1, 1, 1, 1).to(images.device), images.flip(-1), images)


def random_resized_crop(
    images: Tensor,
    *,
    scale: tuple[float, float] = AREA,
    ratio: tuple[float, float] = ASPECT,
    shared: bool = False,
) -> Tensor:
    """Return a random box of every image, enlarged to the full size by bilinear interpolation.

    The distribution of the boxes is that of torchvision's RandomResizedCrop (Szegedy et al. 2015).

    Args:
        images: Shape (B, C, H, W).
        scale: Range of the box's share of the area, drawn uniformly.
        ratio: Range of its width over its height, drawn log-uniformly.
        shared: Use one box for the whole batch, which is cheaper, as in SRe2L's recovery.
    """
    batch, _, height, width = images.shape
    boxes = draw_boxes(1 if shared else batch, (height, width), scale=scale, ratio=ratio)
    if not shared:
        return crop_and_resize(images, boxes)
    top, left, rows, columns = (int(value) for value in boxes)
    window = images[..., top : top + rows, left : left + columns]
    return F.interpolate(window, size=(height, width), mode="bilinear", align_corners=False)


def crop_and_resize(images: Tensor, boxes: Boxes) -> Tensor:
    """Return one box of every image, resized to the full size by bilinear interpolation.

    Sampling positions are clamped to the box, so that nothing outside it shows, as if it had been cut out first.

    Args:
        images: Shape (B, C, H, W), sides of at least 2 pixels.
        boxes: One box per image.
    """
    _, _, height, width = images.shape
    rows = _positions(boxes.top, boxes.height, height).to(images)
    columns = _positions(boxes.left, boxes.width, width).to(images)
    grid = torch.stack((columns.unsqueeze(1).expand(-1, height, -1), rows.unsqueeze(2).expand(-1, -1, width)), dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _positions(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return where ``size`` outputs sample an axis, in grid_sample's units of [-1, 1], shape (B, size)."""
    start, length = start.double().unsqueeze(1), length.double().unsqueeze(1)
    inside = (torch.arange(size, dtype=torch.float64) + 0.5) * length / size - 0.5
    pixel = start + torch.minimum(inside.clamp(min=0), length - 1)
    return pixel * 2 / (size - 1) - 1


class View(NamedTuple):
    """How every image of a batch is augmented, all on the CPU.

    Attributes:
        window: The crop, int64: offsets of a window of the image's size, shape (B, 2); or top, left, height and width
            of a box that is resized to the image's size, shape (B, 4). None for the whole image.
        flipped: Which images are mirrored left to right, bool of shape (B,); None if none is.
        numbers: What an augmentation of a plugin draws besides, float32 of shape (B, N); None if nothing.
    """

    window: Tensor | None = None
    flipped: Tensor | None = None
    numbers: Tensor | None = None

    def of(self, images: Tensor) -> Tensor:
        """Return the images (B, C, H, W), cropped and mirrored."""
        if self.window is not None and self.window.shape[1] == 2:
            images = shift(images, self.window)
        elif self.window is not None:
            images = crop_and_resize(images, Boxes(*self.window.unbind(1)))
        return images if self.flipped is None else flip(images, self.flipped)


class Augmentation(ABC):
    """A random change of training images, as plugins register it.

    A teacher's labels may be stored together with what ``draw`` returned, and ``apply`` then makes the same images
    again, bit by bit, in other batches. So ``apply`` draws nothing, and changes every image by itself.

    Attributes:
        name: What users pass to ``--student.augment`` and ``--teacher.augment``.
        summary: One line for listings.
        window: Numbers that crop an image: 2 for an offset of at most 1/8 of the width, 4 for a box, 0 for no crop.
        flips: Whether images may be mirrored.
        numbers: Further numbers for each image.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    window: ClassVar[Literal[0, 2, 4]] = 0
    flips: ClassVar[bool] = False
    numbers: ClassVar[int] = 0

    @abstractmethod
    def draw(self, count: int, size: tuple[int, int]) -> View:
        """Return random views, drawn from PyTorch's global stream; of what the class does not declare, None.

        Args:
            count: Number of images.
            size: Their (H, W).
        """

    def apply(self, images: Tensor, view: View) -> Tensor:
        """Return the views of images in [0, 1], of the same shape and in [0, 1]; ``images`` stay as they are.

        Args:
            images: float32 of shape (B, C, H, W), on any device.
            view: What :meth:`draw` returned for as many images.
        """
        return view.of(images)


class Whole(Augmentation):
    """The images as they are."""

    name, summary = "none", "the images as they are"

    def draw(self, count: int, size: tuple[int, int]) -> View:
        """Return the views."""
        return View()


class Crop(Augmentation):
    """A random crop, as torchvision's RandomCrop."""

    name, summary, window = "crop", "random crop after padding by 1/8 of the width", 2

    def draw(self, count: int, size: tuple[int, int]) -> View:
        """Return the views."""
        return View(draw_offsets(count, padding=largest_offset(size)))


class CropFlip(Augmentation):
    """A random crop, and half of the images mirrored (the CIFAR way)."""

    name, summary, window, flips = "crop-flip", "crop, and half of the images mirrored", 2, True

    def draw(self, count: int, size: tuple[int, int]) -> View:
        """Return the views."""
        return View(draw_offsets(count, padding=largest_offset(size)), torch.rand(count) < 0.5)


class ResizedCropFlip(Augmentation):
    """A random box of 8 to 100 % of the area, enlarged, and half of the images mirrored (the ImageNet way)."""

    name, summary, window, flips = "resized-crop-flip", "a random box, enlarged, and half mirrored", 4, True

    def draw(self, count: int, size: tuple[int, int]) -> View:
        """Return the views."""
        boxes = draw_boxes(count, size, scale=AREA, ratio=ASPECT)
        return View(torch.stack(boxes, dim=1), torch.rand(count) < 0.5)


def largest_offset(size: tuple[int, int]) -> int:
    """Return by how many pixels ``crop`` shifts images of (H, W) at most."""
    return max(size[1] // 8, 1)
