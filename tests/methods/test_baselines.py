"""Real images that are chosen: those nearest to the centres of their class."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from guard_baselines.centres import RealCentres, nearest_to_centres
from guard_plugins import configure
from guard_plugins.data.augment import crop_and_resize
from guard_plugins.data.boxes import Boxes
from guard_plugins.errors import ConfigError, DataError
from guard_plugins.networks.embedding import Embedding
from guard_plugins.networks.normalised import Normalised
from guard_plugins.testing import check_method, tiny_task


class Flat(nn.Module):
    """A network whose features are the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.classifier(images.flatten(1))
        return out


def flat() -> Normalised:
    return Normalised(Flat(), mean=[0.0], std=[1.0])


def centres(**settings: object) -> RealCentres:
    return RealCentres(RealCentres.Config.model_validate({"centres": settings}))


def test_the_contract() -> None:
    check_method(RealCentres, instant=True)


def test_one_centre_is_the_mean_and_its_image_the_nearest() -> None:
    task = tiny_task(RealCentres)
    for label, chosen in enumerate(nearest_to_centres(task, flat(), 1)):
        members = torch.nonzero(task.data.train.labels == label).flatten()
        images = task.data.train.images(members).flatten(1)
        distances = [float((image - images.mean(0)).square().sum()) for image in images]
        assert chosen.tolist() == [int(members[distances.index(min(distances))])]


def test_as_many_centres_as_images_take_each_once() -> None:
    task = tiny_task(RealCentres)
    for label, chosen in enumerate(nearest_to_centres(task, flat(), 12)):
        members = torch.nonzero(task.data.train.labels == label).flatten()
        assert sorted(chosen.tolist()) == members.tolist()


def test_the_choice_follows_from_the_seed_and_is_stored() -> None:
    task = tiny_task(RealCentres)
    first, second = (centres().distill(task, flat()) for _ in range(2))
    assert torch.equal(first.images, second.images)
    expected = torch.cat(nearest_to_centres(task, flat(), task.ipc))
    assert torch.equal(first.images, task.data.train.images(expected))
    assert torch.equal(first.labels, task.data.train.labels[expected])


def test_a_formation_stores_the_chosen_images_reduced() -> None:
    task = tiny_task(RealCentres)
    stored = centres(formation=2).distill(task, flat())
    real = task.data.train.images(nearest_to_centres(task, flat(), 8)[4][4:8])  # of class 4, its second stored image
    tile = stored.images[9, :, 4:, :4]
    torch.testing.assert_close(tile, nn.functional.avg_pool2d(real[2], 2))
    box = Boxes(*(torch.tensor([value]) for value in (4, 0, 4, 4)))
    torch.testing.assert_close(
        stored.read(torch.tensor([9 * 4 + 2])), crop_and_resize(stored.images[9:10], box)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"formation": 3}, ConfigError, r"tiles of one size \(--centres.formation\)"),
        ({"formation": 4}, DataError, "12 training images, fewer than --ipc asks for"),
    ],
)
def test_what_cannot_work_is_refused_early(settings: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        centres(**settings).check(tiny_task(RealCentres), None)


def test_features_are_what_the_last_linear_layer_is_given() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    images = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Embedding(Normalised(network, mean=[0.5], std=[0.25]))(images), network[:3](images))
    assert not network[3]._forward_pre_hooks
    with pytest.raises(ConfigError, match=r"but this one has none \(--dm.network\)"):
        Embedding(Normalised(nn.Flatten(), mean=[0.5], std=[0.25]), option="--dm.network")


def test_the_dated_preset_is_the_plan_of_the_most_robust_students() -> None:
    asked = {"dataset": "folder", "data_root": "photographs"}
    recommended = configure("random", preset="fast-ipc10-2026-11", **asked)
    plan = configure(
        "random", preset="fast", ipc=10, data={"train_per_class": 5000}, guard={"h_rms": 0.02},
        student={"epochs": 1000}, random={"formation": 2}, **asked,
    )  # fmt: skip
    assert recommended == plan.model_copy(update={"preset": "fast-ipc10-2026-11"})
