from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from guard_sre2l.statistics import StatisticsLoss, batchnorm_layers, channel_statistics

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def network() -> nn.Sequential:
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.Flatten()
    )
    net(torch.randn(16, 3, 8, 8) * 2 + 1)
    return net.eval()


def slow_loss(net: nn.Sequential, x: Tensor, first: float) -> float:
    """The loss in loops over channels and values, from the formula."""
    total, number = 0.0, 0
    for layer in net:
        if isinstance(layer, nn.BatchNorm2d):
            mean_gap = variance_gap = 0.0
            for channel in range(x.shape[1]):
                values = x[:, channel].flatten().double()
                mean = sum(values.tolist()) / len(values)
                variance = sum((value - mean) ** 2 for value in values.tolist()) / len(values)
                mean_gap += (layer.running_mean[channel].item() - mean) ** 2  # type: ignore[index]
                variance_gap += (layer.running_var[channel].item() - variance) ** 2  # type: ignore[index]
            total += (first if number == 0 else 1.0) * (mean_gap**0.5 + variance_gap**0.5)
            number += 1
        x = layer(x)
    return total


def test_agrees_with_the_formula_in_loops() -> None:
    net, x = network(), torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad(), StatisticsLoss(net, first=10.0) as statistics:
        net(x)
        assert abs(statistics.value().item() - slow_loss(net, x, 10.0)) < 1e-4


def test_is_zero_on_a_batch_whose_statistics_are_the_running_ones() -> None:
    layer = nn.BatchNorm2d(3).eval()
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    layer.running_mean, layer.running_var = mean, variance
    with StatisticsLoss(layer, first=10.0) as statistics:
        layer(x)
        assert statistics.value().item() < 1e-6


def test_leaves_no_hook_and_no_graph_behind() -> None:
    net = network()
    with StatisticsLoss(net, first=1.0) as statistics:
        net(torch.randn(2, 3, 8, 8))
    assert not any(layer._forward_pre_hooks for layer in net.modules())
    assert not statistics._losses


def test_layers_without_running_statistics_do_not_count() -> None:
    assert batchnorm_layers(nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False), nn.GroupNorm(1, 2))) == []


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_statistics_and_their_gradients_are_those_of_the_definition(layout: torch.memory_format, device: str) -> None:
    x = torch.randn(5, 3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(6)) * 3 + 1
    x = x.to(device).contiguous(memory_format=layout).requires_grad_()
    mean, variance = channel_statistics(x)
    expected = x.mean((0, 2, 3))
    spread = (x - expected.view(1, -1, 1, 1)).square().mean((0, 2, 3))
    torch.testing.assert_close((mean, variance), (expected, spread), rtol=1e-12, atol=1e-12)
    weights = torch.arange(1.0, 7.0, dtype=torch.float64, device=device)
    (ours,) = torch.autograd.grad((weights * torch.cat([mean, variance.sqrt()])).sum(), x)
    (slow,) = torch.autograd.grad((weights * torch.cat([expected, spread.sqrt()])).sum(), x)
    torch.testing.assert_close(ours, slow, rtol=1e-12, atol=1e-12)
    assert ours.is_contiguous(memory_format=layout)


def test_statistics_of_a_large_mean_lose_no_digits() -> None:
    """Mean of squares minus square of mean would give a variance off by several times itself here."""
    x = torch.randn(20, 2, 8, 8, generator=torch.Generator().manual_seed(7)) + 10000
    _, variance = channel_statistics(x.contiguous(memory_format=torch.channels_last))
    exact = x.double().var((0, 2, 3), correction=0)
    torch.testing.assert_close(variance.double(), exact, rtol=1e-3, atol=0)
