from __future__ import annotations

import torch

from guard_plugins.runtime.seeds import Seeds
from guard_plugins.training.batches import EpochBatches, epoch_order


def test_an_order_is_a_permutation_that_depends_on_its_path_only():
    order = epoch_order(50, Seeds(3), "teacher", 4)
    assert sorted(order.tolist()) == list(range(50))
    torch.manual_seed(99)
    assert torch.equal(epoch_order(50, Seeds(3), "teacher", 4), order)
    others = [(Seeds(4), "teacher", 4), (Seeds(3), "student", 4), (Seeds(3), "teacher", 5)]
    assert not any(torch.equal(epoch_order(50, *path), order) for path in others)


def test_an_order_leaves_the_global_stream_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    epoch_order(10, Seeds(0), "x", 0)
    assert torch.equal(torch.rand(3), expected)


def test_batches_cut_the_order_of_each_epoch():
    batches = EpochBatches(10, 3, seeds=Seeds(1), stage="s")
    assert (batches.size, batches.per_epoch) == (3, 3)
    for step in range(9):
        order = epoch_order(10, Seeds(1), "s", step // 3)
        assert torch.equal(batches.index(step), order[step % 3 * 3 : step % 3 * 3 + 3])


def test_a_loop_may_start_anywhere():
    straight = EpochBatches(10, 4, seeds=Seeds(1), stage="s")
    walked = [straight.index(step) for step in range(8)]
    fresh = EpochBatches(10, 4, seeds=Seeds(1), stage="s")
    for step in (5, 0, 7, 2):
        assert torch.equal(fresh.index(step), walked[step])


def test_fewer_images_than_a_batch():
    batches = EpochBatches(3, 64, seeds=Seeds(0), stage="s")
    assert (batches.size, batches.per_epoch) == (3, 1)
    assert sorted(batches.index(5).tolist()) == [0, 1, 2]
