"""The schedules at their corner points and against PyTorch's own."""

from __future__ import annotations

import pytest
import torch

from guard_plugins.training.schedules import cosine, learning_rate, one_cycle


def test_cosine_agrees_with_pytorch() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    ours, theirs = (torch.optim.SGD([weight], lr=0.2) for _ in range(2))
    mine = learning_rate(ours, "cosine", 17)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 17)
    for _ in range(17):
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"])
        for optimizer, scheduler in ((ours, mine), (theirs, reference)):
            optimizer.step()
            scheduler.step()


def test_one_cycle_rises_and_falls() -> None:
    assert one_cycle(0, 100) == pytest.approx(1 / 25)
    assert one_cycle(30, 100) == pytest.approx(1)
    assert one_cycle(65, 100) == pytest.approx(0.5)
    assert one_cycle(100, 100) == pytest.approx(0)
    values = [one_cycle(step, 100) for step in range(101)]
    assert values[:31] == sorted(values[:31])
    assert values[30:] == sorted(values[30:], reverse=True)


@pytest.mark.parametrize("factor", [one_cycle, cosine])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_short_schedules_stay_finite_and_in_range(factor: object, total: int) -> None:
    assert all(0 <= factor(step, total) <= 1 for step in range(total + 1))  # type: ignore[operator]
