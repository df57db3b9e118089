"""Images that are read batch by batch give the results of those in memory."""

from __future__ import annotations

import torch

from guard_plugins.attacks.pgd import PGD
from guard_plugins.data.splits import TensorSplit
from guard_plugins.evaluation.accuracy import attack_accuracy, clean_accuracy
from guard_plugins.evaluation.images import SelectedImages
from guard_plugins.runtime.seeds import Seeds


class Watched(TensorSplit):
    """Remembers how many images were asked for at a time."""

    asked = 0

    def images(self, index: torch.Tensor) -> torch.Tensor:
        self.asked = max(self.asked, len(index))
        return super().images(index)


def test_an_attack_reads_a_batch_at_a_time_and_finds_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    split = Watched(torch.rand(40, 1, 4, 4, generator=generator), torch.randint(0, 3, (40,), generator=generator))
    model, index = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)), torch.arange(1, 40, 2)
    torch.nn.init.normal_(model[1].weight, generator=generator)
    labels = model(split.images(index)).argmax(1)
    split.asked = 0
    read = SelectedImages(split, index)
    held = TensorSplit(split.pixels, split.labels).images(index)
    found = [
        attack_accuracy(model, PGD(steps=3), images, labels, eps=0.1, batch_size=8, seeds=Seeds(0)).robust
        for images in (read, held)
    ]
    assert torch.equal(*found)
    assert 0 < int(found[0].sum()) < 20
    assert clean_accuracy(model, read, labels, batch_size=8) == 1
    assert split.asked == 8
    assert len(read) == 20
    assert torch.equal(read[:3], held[:3])
