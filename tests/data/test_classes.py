"""One sort finds the images of every class."""

from __future__ import annotations

import torch

from guard_plugins.data.classes import members_by_class


def test_members_are_those_of_a_scan_for_each_class() -> None:
    labels = torch.randint(0, 9, (500,), generator=torch.Generator().manual_seed(0))
    labels[labels == 4] = 5
    found = members_by_class(labels, 12)
    assert len(found) == 12
    for label, members in enumerate(found):
        assert torch.equal(members, torch.nonzero(labels == label).flatten())


def test_classes_beyond_the_last_that_is_wanted_are_passed_over() -> None:
    assert [members.tolist() for members in members_by_class(torch.tensor([2, 0, 1, 0]), 2)] == [[1, 3], [2]]
