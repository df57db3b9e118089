from __future__ import annotations

import torch
from torch import Tensor, nn

from guard_sre2l.statistics import StatisticsLoss, batchnorm_layers


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
