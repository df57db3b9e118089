"""The state of a loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from guard_plugins.artifacts.tree import load_tree, save_tree
from guard_plugins.runtime.loop import LoopState


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_averages_come_back_in_the_layout_of_their_weights(tmp_path: Path, layout: torch.memory_format) -> None:
    """Files hold plain tensors; averages laid out otherwise than their weights would make every later step slower."""

    def built() -> tuple[LoopState, nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        net = nn.Conv2d(3, 4, 3).to(memory_format=layout)  # type: ignore[call-overload]  # missed by the stubs
        adam = torch.optim.AdamW(net.parameters(), lr=0.1)
        return LoopState(net=net, adam=adam), net, adam

    def step(net: nn.Module, adam: torch.optim.Optimizer) -> None:
        adam.zero_grad()
        net(torch.ones(2, 3, 5, 5)).square().sum().backward()
        adam.step()

    state, net, adam = built()
    step(net, adam)
    save_tree(tmp_path / "state", state.capture())
    restored, other, again = built()
    restored.restore(load_tree(tmp_path / "state"))
    for weight, averages in again.state.items():
        assert averages["exp_avg"].stride() == weight.stride()
        assert averages["exp_avg_sq"].stride() == weight.stride()
    step(net, adam)
    step(other, again)
    for here, there in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(here, there)


def test_a_random_generator_goes_on_with_the_numbers_that_would_have_come(tmp_path: Path) -> None:
    here, there = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    torch.rand(3, generator=here)
    save_tree(tmp_path / "state", LoopState(draws=here).capture())
    expected = torch.rand(5, generator=here)
    LoopState(draws=there).restore(load_tree(tmp_path / "state"))
    assert torch.equal(torch.rand(5, generator=there), expected)
