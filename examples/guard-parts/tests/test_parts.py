"""The parts by themselves, and together in a run of a method that ships."""

from __future__ import annotations

import torch
from torch import nn

from guard_parts.brightness import Brightness
from guard_parts.light import Light
from guard_parts.mlp import MLP
from guard_parts.shapes import CLASSES, Shapes
from guard_plugins.data.base import DataRequest
from guard_plugins.networks.base import NetworkRequest
from guard_plugins.testing import check_augmentation
from guard_plugins.testing.fixtures import TinyRun


def test_the_shapes_are_always_the_same_and_of_different_areas() -> None:
    data, again = (Shapes().load(DataRequest(train_per_class=30, test_per_class=2)) for _ in range(2))
    everything = torch.arange(90)
    images = data.train.images(everything)
    assert images.shape == (90, *data.image_shape)
    assert torch.equal(images, again.train.images(everything))
    areas = [float((images[data.train.labels == label] > 0.5).float().mean()) for label in range(len(CLASSES))]
    assert areas[0] > areas[1] > areas[2] > 0
    assert Shapes().load(DataRequest(image_size=8)).image_shape == (1, 8, 8)


def test_the_network_takes_images_of_any_shape() -> None:
    network = MLP().build(NetworkRequest(image_shape=(3, 5, 7), classes=4, activation="gelu"))
    assert network(torch.randn(2, 3, 5, 7)).shape == (2, 4)


def test_the_attack_takes_the_worse_direction() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0] * 4, [-1.0] * 4]))  # class 0 likes bright images
    images, labels = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])
    found = Brightness().perturb(model, images, labels, eps=0.1, generator=torch.Generator())
    assert torch.allclose(found[0], torch.tensor(0.4))
    assert torch.allclose(found[1], torch.tensor(0.6))


def test_the_augmentation_keeps_the_contract_and_changes_the_light_by_at_most_30_percent() -> None:
    check_augmentation(Light)
    view = Light().draw(200, (8, 8))
    light = Light().apply(torch.full((200, 1, 8, 8), 0.5), view).amax(dim=(1, 2, 3)) / 0.5
    assert 0.7 <= float(light.min()) < 0.8
    assert 1.2 < float(light.max()) <= 1.3


def test_all_of_them_in_one_run(tiny_run: TinyRun) -> None:
    report, folder = tiny_run(
        "random", dataset="shapes", teacher={"network": "mlp", "batch_size": 12},
        student={"augment": "crop-flip-light"},
        evaluation={"protocol": "brightness", "images": 6},
    )  # fmt: skip
    assert report.dataset == "shapes"
    assert report.protocol == "brightness"
    assert {entry.attack for entry in report.models.student.robust} == {"brightness"}
    assert "test images, under Brightness (L∞) at growing ε" in (folder / "report.html").read_text(encoding="utf-8")
