"""What a data set is to the rest of the project: two splits of images in [0, 1], and how plugins provide one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from guard_plugins.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from guard_plugins.data.boxes import BoxNumbers


FILE_SETTINGS: Final = (
    "data.skip_corrupt", "data.split", "data.range", "data.reduced_decode", "data.memory", "data.cache",
    "teacher.crop_from",
)  # fmt: skip
"""Settings that are for images in files; data sets without any list them in ``ignores``."""

_WHY_REFUSED: Final = {
    "split": "It comes with test images of its own; the option is for folders without any",
    "range": "It is for images deeper than 8 bits in folders",
    "reduced_decode": "It is for large JPEG files",
}


class Originals(ABC):
    """The images of a split as they were before they were cut and resized to the size of the set."""

    @abstractmethod
    def crops(self, index: Tensor, numbers: BoxNumbers, ratio: tuple[float, float]) -> Tensor:
        """Return a box of every image, resized to the size of the set: float32 in [0, 1], shape (B, C, H, W).

        Args:
            index: Which images, int64 of shape (B,).
            numbers: What the boxes follow from, for B images; see `guard_plugins.data.boxes`.
            ratio: Range of their width over their height.

        Raises:
            DataError: If an image is broken.
        """

    @abstractmethod
    def part(self, index: Tensor) -> Originals:
        """Return those of some of the images (int64, shape (N,))."""


class Split(ABC):
    """Random access to the images of one split.

    Attributes:
        labels: Class index of every image, int64 of shape (N,), on the CPU.
        from_files: Whether images are read when they are asked for. A teacher's next batches are then read in a thread
            while it computes, so ``images`` must not draw from global random streams.
        originals: The images before they were cut and resized, where there are such; ``--teacher.crop-from original``
            cuts its boxes there.
    """

    labels: Tensor
    from_files: bool = False
    originals: Originals | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def images(self, index: Tensor) -> Tensor:
        """Return the images at ``index`` (int64, shape (B,)) as float32 in [0, 1], shape (B, C, H, W), on the CPU."""


@dataclass(frozen=True)
class Data:
    """A data set ready for use.

    Attributes:
        name: Name of the data set in reports.
        train: Training split.
        test: Test split.
        classes: Names of the classes, in the order of the labels.
        mean: Per-channel mean of the pixels in [0, 1], used inside the models.
        std: Per-channel standard deviation of the pixels in [0, 1].
        image_shape: (C, H, W) of every image.
        skipped: Paths of the files that were left out because they cannot be read, as `DataRequest.skip_corrupt` asks.
        notes: Sentences on how the files were read that a user should know.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_shape: tuple[int, int, int]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """What the user asked of a data set.

    Attributes:
        root: Folder that holds (or shall hold) the files; None where none was given.
        download: Whether the network may be used.
        image_size: Side in pixels to resize to, or None for the size the set has.
        train_per_class: Largest number of training images per class (the first in file order), or None for all.
        test_per_class: The same for test images.
        skip_corrupt: Whether image files that cannot be read are left out instead of being an error.
        split: Share of every class to hold out as test images, for folders that have no test images of their own.
        range: Numbers that become black and white in images deeper than 8 bits, or None for 0 and 65535.
        reduced_decode: Whether large JPEGs are decoded at a smaller scale, which is faster.
        memory: GiB of decoded images that may be held in memory.
        cache: Folder for files of decoded images, or None for none.

    Raises:
        DataError: If a size or a limit is below one, a share not between 0 and 1, or a range empty.
    """

    root: Path | None = None
    download: bool = False
    image_size: int | None = None
    train_per_class: int | None = None
    test_per_class: int | None = None
    skip_corrupt: bool = False
    split: float | None = None
    range: tuple[float, float] | None = None
    reduced_decode: bool = False
    memory: float = 4.0
    cache: Path | None = None

    def __post_init__(self) -> None:
        for field in ("image_size", "train_per_class", "test_per_class"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise DataError(
                    f"{field} must be at least 1.", seen=f"{field}={value}", do="Leave it out for the set as it is."
                )
        if self.split is not None and not 0 < self.split < 1:
            raise DataError("split must lie between 0 and 1.", seen=f"split={self.split}", do="Give a share, as 0.2.")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise DataError(
                "range must be two numbers, the smaller first.", seen=f"range={self.range[0]:g} {self.range[1]:g}",
                do="Give the number that is black and the one that is white.",
            )  # fmt: skip

    def refuse(self, name: str, *fields: str) -> None:
        """Refuse options that a data set has no use for.

        Args:
            name: The data set.
            *fields: Names of the options, such as ``split``.

        Raises:
            DataError: If one of them was asked for.
        """
        for field in fields:
            value = getattr(self, field)
            if value not in (None, False):
                option = field.replace("_", "-")
                raise DataError(
                    f"The data set {name} has no use for --data.{option}.", seen=f"{field}={value}",
                    do=f"{_WHY_REFUSED[field]}. Leave it out.",
                )  # fmt: skip


class DataSet(ABC):
    """A source of data, as plugins register it.

    Attributes:
        name: What users pass to ``--dataset``.
        summary: One line for listings.
        needs_root: Whether ``--data-root`` is required.
        ignores: Settings that do nothing with this data set (``data_root``, ``download``, those of
            :data:`FILE_SETTINGS`); guard-run refuses them.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    needs_root: ClassVar[bool] = False
    ignores: ClassVar[tuple[str, ...]] = ()

    def side(self, request: DataRequest) -> int | None:
        """Return the pixels of the shorter side of the images as they are stored; None where that is not known.

        Settings that nobody chose follow from it. By default, it is not known.

        Args:
            request: What the user asked for; nothing is downloaded.
        """
        return None

    def training_images(self, request: DataRequest, most: int) -> int | None:
        """Return how many training images there are, and ``most`` where there are more; None where that is not known.

        Settings that nobody chose follow from it. By default, it is not known.

        Args:
            request: What the user asked for; nothing is downloaded.
            most: More than these need not be counted.
        """
        return None

    @abstractmethod
    def load(self, request: DataRequest) -> Data:
        """Read the data set.

        Raises:
            DataError: If the files are missing, malformed or do not fit the request.
        """
