"""A folded copy computes what the model computes, in fewer layers; what it cannot know it leaves alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torchvision.models import resnet18, resnet50

from guard_plugins.networks.base import NetworkRequest
from guard_plugins.networks.folded import folded
from guard_plugins.networks.normalised import Normalised
from guard_plugins.networks.small_resnet import SmallResNet

SMALL = NetworkRequest(image_shape=(3, 16, 16), classes=5, activation="relu")


def trained(net: nn.Module) -> nn.Module:
    """Return the network in eval mode, with statistics and scales as training leaves them."""
    torch.manual_seed(0)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 2.0)
                nn.init.normal_(part.bias)
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
    return net.double().eval()


def norms(net: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in net.modules())


def convolution() -> nn.Conv2d:
    return nn.Conv2d(3, 3, 3, padding=1)


FOLDED: dict[str, Callable[[], nn.Module]] = {
    "small ResNet": lambda: Normalised(SmallResNet(SMALL), mean=[0.4] * 3, std=[0.3] * 3),
    "torchvision, basic blocks": lambda: resnet18(num_classes=5),
    "torchvision, bottlenecks": lambda: resnet50(num_classes=5),
    "without scale and shift": lambda: nn.Sequential(convolution(), nn.BatchNorm2d(3, affine=False), nn.Flatten()),
}


@pytest.mark.parametrize("name", FOLDED)
def test_logits_and_gradients_are_those_of_the_model(name: str) -> None:
    net = trained(FOLDED[name]())
    before = {key: value.clone() for key, value in net.state_dict().items()}
    quick = folded(net)
    assert norms(net) > 0
    assert norms(quick) == 0
    x = torch.rand(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    answers = []
    for model in (net, quick):
        leaf = x.clone().requires_grad_()
        logits = model(leaf)
        answers.append((logits, torch.autograd.grad(logits.square().sum(), leaf)[0]))
    for ours, theirs in zip(answers[1], answers[0], strict=True):
        assert (ours - theirs).abs().max().item() <= 1e-10 * theirs.abs().max().item()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


class Skips(nn.Sequential):
    """Runs its layers in an order of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return self[1](self[0](x)) + self[0](x)


def watched() -> nn.Module:
    net = nn.Sequential(convolution(), nn.BatchNorm2d(3))
    net[0].register_forward_hook(lambda module, inputs, output: output * 2)
    return net


def shared() -> nn.Module:
    conv = convolution()
    return nn.Sequential(nn.Sequential(conv, nn.BatchNorm2d(3)), conv)


def patched() -> nn.Module:
    net = resnet18(num_classes=5).layer1[0]
    net.forward = lambda x: net.bn1(x)
    return net


def uncopied() -> nn.Module:
    net = nn.Sequential(convolution(), nn.BatchNorm2d(3))
    net.last = torch.ones(2, requires_grad=True) * 2  # has a graph, which copy.deepcopy refuses
    return net


LEFT: dict[str, Callable[[], nn.Module]] = {
    "another order": lambda: Skips(convolution(), nn.BatchNorm2d(3)),
    "a hook": watched,
    "a shared convolution": shared,
    "a parametrised convolution": lambda: nn.Sequential(parametrizations.weight_norm(convolution()), nn.BatchNorm2d(3)),
    "no running statistics": lambda: nn.Sequential(convolution(), nn.BatchNorm2d(3, track_running_stats=False)),
    "a forward of its own": patched,
    "a model that cannot be copied": uncopied,
    "nothing to fold": lambda: nn.Sequential(convolution(), nn.InstanceNorm2d(3)),
}


@pytest.mark.parametrize("name", LEFT)
def test_other_models_are_returned_as_they_are(name: str) -> None:
    net = LEFT[name]().eval()
    assert folded(net) is net


def test_a_model_in_training_is_left_alone() -> None:
    net = nn.Sequential(convolution(), nn.BatchNorm2d(3)).train()
    assert folded(net) is net
