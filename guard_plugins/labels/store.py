"""Stored soft labels, replayed: any view of any epoch, in any order, without a teacher."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from guard_plugins.data.augment import Augmentation, View, Whole
from guard_plugins.data.mixing import Mix, mix
from guard_plugins.errors import ArtifactError, DamagedError
from guard_plugins.labels.shard import Card, read_card, read_shard
from guard_plugins.training.augmentation import BUILT_IN, Augmenter
from guard_plugins.training.student_batches import StudentBatch, gathered, placed


class StoredLabels(Dataset[tuple[Tensor, Tensor]]):
    """The views of a student's training with the teacher's logits on them, as a map-style data set.

    Item ``i`` is image ``i % batch`` of batch ``i // batch``: a view, shape (C, H, W), and float32 logits, shape (K,).
    Items do not depend on each other, so a ``DataLoader`` may take them in any order, with any batch size and any
    number of workers.

    Attributes:
        card: Layout and origin of the labels.
        total: Number of stored batches, over all epochs.

    Args:
        folder: The folder with the files; every number in them is checked.
        images: The distilled images the labels were made for, shape (N, C, H, W).
        device: Where to compute; where the images are if None.
        labels: Classes of the images, int64 of shape (N,), where batches are to have them beside the logits.
        augmentations: Augmentations of plugins by name; the labels say whether they need one.

    Raises:
        DamagedError: If the labels are of other images, or a file is missing or damaged; the message names it.
    """

    def __init__(
        self, folder: Path, images: Tensor, device: torch.device | None = None, *, labels: Tensor | None = None,
        augmentations: Mapping[str, type[Augmentation]] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.card = _card_of(folder)
        self.total = self.card.epochs * self.card.per_epoch
        if self.card.source != hash_of(images):
            raise DamagedError(
                f"The stored labels in {folder} belong to other images than the distilled set",
                seen=f"labels of {self.card.images} images {self.card.size}; the set has {tuple(images.shape)}",
                do="Use the labels that lie beside the set in its run's folder.",
            )
        self._device = images.device if device is None else device
        self._labels, self._augment = labels, _augmenter(self.card, folder, augmentations)
        self._images = placed(images, self._device)
        self._shards = [read_shard(folder / name, self.card, epochs) for name, epochs in self.card.shards().items()]

    def __len__(self) -> int:
        return self.total * self.card.batch

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        if not 0 <= item < len(self):
            raise IndexError(f"item {item} of {len(self)}")
        images, logits = self.replay(torch.tensor([item]))
        return images[0], logits[0]

    def __getitems__(self, items: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return several items, as a ``DataLoader`` asks for them."""
        return list(zip(*self.replay(torch.tensor(items)), strict=True))

    def batch(self, step: int) -> StudentBatch:
        """Return the stored batch of step ``step``."""
        start = step * self.card.batch
        items = torch.arange(start, start + self.card.batch)
        return StudentBatch(*self.replay(items), soft=True, classes=self._classes(items))

    def replay(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the views (B, C, H, W) and logits (B, K, float32) of ``items``, int64 of shape (B,)."""
        how, needed, where = None, items, torch.arange(len(items))
        if self.card.mix != "none":
            how = self._mix(items)
            needed, where = torch.cat([items, how.partner]).unique(return_inverse=True)
        window = self._each("window", needed).long() if self.card.window else None
        numbers = self._each("numbers", needed) if self.card.numbers else None
        view = View(window, self._each("flipped", needed) if self.card.flips else None, numbers)
        device = self._device
        images = self._augment.apply(gathered(self._images, self._each("rows", needed), device), view)
        where = where.to(device)
        own = images[where[: len(items)]]
        if how is not None:
            own = mix(own, images[where[len(items) :]], how)
        return own, self._each("logits", items).to(device).float()

    def _classes(self, items: Tensor) -> Tensor | None:
        """Return the classes of the images of ``items``, one-hot, mixed like these, shape (B, K); None if unknown."""
        if self._labels is None:
            return None
        how = None if self.card.mix == "none" else self._mix(items)
        targets = F.one_hot(self._labels, self.card.classes).float()
        own = targets[self._each("rows", items).long()]
        if how is not None:
            partners = targets[self._each("rows", how.partner).long()]
            own = own.lerp(partners, (1 - how.share).to(own).view(-1, 1))
        return own.to(self._device)

    def _mix(self, items: Tensor) -> Mix:
        """Return how the items are mixed, with the numbers of their partners' items."""
        steps, partner = items // self.card.batch, self._each("partner", items)
        if bool((steps == steps[0]).all()):
            steps = steps[:1]  # one share for all, as online: the same operation gives the same bits
        box = self._at("box", steps).long() if self.card.mix == "cutmix" else None
        return Mix(items - items % self.card.batch + partner, self._at("share", steps), box)

    def _each(self, name: str, items: Tensor) -> Tensor:
        """Return the entries of ``items`` of a tensor (S, B, ...)."""
        return self._at(name, items // self.card.batch, items % self.card.batch)

    def _at(self, name: str, steps: Tensor, *positions: Tensor) -> Tensor:
        """Return the entries of ``steps`` of a tensor (S, ...), in the batch at ``positions`` where these are given."""
        per_shard, first = self.card.shard * self.card.per_epoch, self._shards[0][name]
        found = first.new_empty((len(steps), *first.shape[1 + len(positions) :]))
        for shard in (steps // per_shard).unique().tolist():
            here = steps // per_shard == shard
            found[here] = self._shards[shard][name][steps[here] % per_shard, *(part[here] for part in positions)]
        return found


def hash_of(images: Tensor) -> str:
    """Return a hash of images, float32 of shape (N, C, H, W)."""
    state = hashlib.blake2b(repr(tuple(images.shape)).encode(), digest_size=16)
    for image in images:
        state.update(image.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def _augmenter(card: Card, folder: Path, others: Mapping[str, type[Augmentation]]) -> Augmenter:
    """Return what makes the views again.

    Raises:
        ArtifactError: If it is an augmentation of a plugin that is not there, or not the same any more.
    """
    if not card.augment:
        return Augmenter(Whole)  # those of the project crop and mirror by the numbers alone
    kind = others[card.augment] if card.augment in set(others) else None
    if kind is None or kind.name in BUILT_IN or (kind.window, kind.flips, kind.numbers) != (
        card.window, card.flips, card.numbers
    ):  # fmt: skip
        raise ArtifactError(
            f"The stored labels in {folder} need the augmentation {card.augment!r} of a plugin",
            seen="it is not there" if kind is None else "the one of that name draws other numbers",
            do="Install its plugin, or name its file in GUARD_PLUGIN_FILES; from Python: "
            "StoredLabels(..., augmentations={name: class}).",
        )
    return Augmenter(kind)


def _card_of(folder: Path) -> Card:
    """Return the card of the labels in a folder, after a check that no file is missing.

    Raises:
        DamagedError: If there are none, one is missing, or the first cannot be read.
    """
    present = {path.name for path in folder.glob("*.safetensors")}
    if not present:
        raise DamagedError(
            f"There are no stored labels in {folder}", do="Store some with `guard-run --student.labels stored`."
        )
    card = read_card(folder / min(present))
    # Counted before the names are listed, since an untrusted file may claim any number of epochs.
    expected = math.ceil(card.epochs / card.shard)
    missing = sorted(set(card.shards()) - present) if expected <= 2 * len(present) + 100 else []
    if missing or expected != len(present):
        raise DamagedError(
            f"The stored labels in {folder} are incomplete, or from different runs",
            seen=f"{len(present)} files of {expected}" + "".join(f"; {name} is missing" for name in missing[:3]),
            do="Go on with `guard-run --resume RUN`, which labels only what is missing.",
        )  # fmt: skip
    return card
