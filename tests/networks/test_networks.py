from __future__ import annotations

import pytest
import torch
from torch import nn

from guard_plugins.errors import ConfigError
from guard_plugins.host.builtin import register_networks
from guard_plugins.networks.activations import activation_layer
from guard_plugins.networks.base import Network, NetworkRequest

NETWORKS = {network.name: network for network in register_networks()}
SHAPES = [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 40, 24)]
SMALLEST = {
    "small-resnet": 4, "resnet18": 8, "resnet34": 8, "resnet50": 8,
    "convnet3": 8, "convnet3-bn": 8, "convnet4": 16, "convnet4-bn": 16,
}  # fmt: skip


def build(
    name: str, shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10, activation: str = "relu"
) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]().build(
        NetworkRequest(image_shape=shape, classes=classes, activation=activation)  # type: ignore[arg-type]
    )


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_every_network_is_known_here():
    assert set(NETWORKS) == set(SMALLEST)
    assert all(issubclass(network, Network) and network.summary for network in NETWORKS.values())


@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name in sorted(SMALLEST) for shape in SHAPES if min(shape[1:]) >= SMALLEST[name]],
)
def test_logits_for_every_shape_it_takes(name, shape):
    assert build(name, shape, classes=7)(torch.randn(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_smallest_side_works_and_one_less_is_a_clear_error(name):
    side = SMALLEST[name]
    assert build(name, (1, side, side)).eval()(torch.randn(2, 1, side, side)).isfinite().all()
    with pytest.raises(ConfigError) as caught:
        build(name, (1, side, side - 1))
    message = str(caught.value)
    assert f"{side}x{side - 1} pixels" in message
    assert f"at least {side}x{side}" in message
    assert f"--data.image-size {side}" in message
    assert name in message


@pytest.mark.parametrize(("activation", "kind"), [("relu", nn.ReLU), ("silu", nn.SiLU), ("gelu", nn.GELU)])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_activation_everywhere_and_never_in_place(name, activation, kind):
    modules = list(build(name, activation=activation).modules())
    assert any(isinstance(module, kind) for module in modules)
    others = tuple({nn.ReLU, nn.SiLU, nn.GELU} - {kind})
    assert not any(isinstance(module, others) for module in modules)
    assert not any(getattr(module, "inplace", False) for module in modules)


def test_activation_changes_the_function():
    images = torch.randn(2, 3, 32, 32)
    outputs = [build("resnet18", activation=name).eval()(images) for name in ("relu", "silu", "gelu")]
    assert not torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[1], outputs[2])


def test_unknown_activation():
    with pytest.raises(ConfigError, match=r"no activation called 'tanh'.*\n.*\n.*relu, silu, gelu"):
        activation_layer("tanh")


@pytest.mark.parametrize("name", ["small-resnet", "resnet18", "convnet3", "convnet3-bn"])
def test_double_backward_reaches_the_weights(name):
    network = build(name, (3, 16, 16), activation="silu")
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    loss = nn.functional.cross_entropy(network(images), torch.arange(4))
    (gradient,) = torch.autograd.grad(loss, images, create_graph=True)
    gradient.square().sum().backward()
    first = next(network.parameters())
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


def test_weights_come_from_the_global_generator():
    for name in ("small-resnet", "resnet18", "convnet3"):
        first, again = build(name).state_dict(), build(name).state_dict()
        assert all(torch.equal(first[key], again[key]) for key in first)


# Parameter counts worked out by hand from the published architectures.
@pytest.mark.parametrize(
    ("name", "shape", "classes", "parameters"),
    [
        # 3 convolutions, 3 affine norms, and a linear layer of 2048 -> 10 (the ConvNet of dataset condensation)
        ("convnet3", (3, 32, 32), 10, (3 + 128 * 2) * 9 * 128 + 3 * 128 + 3 * 2 * 128 + 2048 * 10 + 10),
        ("convnet4", (3, 64, 64), 200, (3 + 128 * 3) * 9 * 128 + 4 * 128 + 4 * 2 * 128 + 2048 * 200 + 200),
        # torchvision's 11,689,512 for 1,000 classes; the small stem has 3x3 instead of 7x7 taps
        ("resnet18", (3, 224, 224), 1000, 11_689_512),
        ("resnet18", (3, 32, 32), 1000, 11_689_512 - 3 * 64 * (49 - 9)),
        ("resnet34", (3, 224, 224), 1000, 21_797_672),
        ("resnet50", (3, 224, 224), 1000, 25_557_032),
    ],
)
def test_parameter_counts(name, shape, classes, parameters):
    assert count(build(name, shape, classes)) == parameters


def test_stem_follows_the_image_size():
    small, large = build("resnet18", (3, 111, 111)), build("resnet18", (3, 112, 112))
    assert (small.conv1.kernel_size, small.conv1.stride, small.conv1.bias) == ((3, 3), (1, 1), None)
    assert isinstance(small.maxpool, nn.Identity)
    assert (large.conv1.kernel_size, large.conv1.stride) == ((7, 7), (2, 2))
    assert isinstance(large.maxpool, nn.MaxPool2d)


def test_large_grey_images_keep_the_ordinary_stem():
    network = build("resnet18", (1, 128, 128))
    assert (network.conv1.in_channels, network.conv1.kernel_size) == (1, (7, 7))
    assert network(torch.randn(2, 1, 128, 128)).shape == (2, 10)


def test_instance_norm_is_per_image_and_batch_norm_is_not():
    images = torch.randn(4, 3, 32, 32)
    for name, alone_differs in (("convnet3", False), ("convnet3-bn", True)):
        network = build(name).train()
        together, alone = network(images)[:1], network(images[:1])
        assert torch.allclose(together, alone, atol=1e-5) is not alone_differs


def test_convnet_equals_the_published_formula():
    network = build("convnet3")
    images = torch.randn(2, 3, 32, 32)
    expected = images
    for block in network.features:
        convolution, norm = block[0], block[1]
        expected = nn.functional.conv2d(expected, convolution.weight, convolution.bias, padding=1)
        mean = expected.mean((2, 3), keepdim=True)
        variance = expected.var((2, 3), unbiased=False, keepdim=True)
        expected = (expected - mean) / (variance + 1e-5).sqrt()
        expected = expected * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
        expected = expected.clamp(min=0).unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    expected = expected.flatten(1) @ network.classifier.weight.T + network.classifier.bias
    assert torch.allclose(network(images), expected, atol=1e-5)


def test_mnist_sized_images_grow_to_32():
    assert build("convnet3", (1, 28, 28)).classifier.in_features == 2048
