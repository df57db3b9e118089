from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from guard_dc.config import DCConfig
from guard_dc.distance import gradient_distance, matched_parameters
from guard_dc.method import DC
from guard_plugins.curvature import CurvatureHook
from guard_plugins.data.base import Data
from guard_plugins.data.classwise import Classwise
from guard_plugins.data.distilled import DistilledSet
from guard_plugins.data.splits import TensorSplit
from guard_plugins.errors import DataError
from guard_plugins.pipeline.guard import wrap_guarded
from guard_plugins.runtime.task import Task

MakeTask = Callable[..., Task]
MATCH: dict[str, Any] = {"iterations": 2, "outer": 2, "inner": 3, "real_batch": 5, "batch": 4}
H_RMS, WEIGHT = 0.05, 0.7


def method(**match: Any) -> DC:
    return DC(DCConfig.model_validate({"match": {**MATCH, **match}}))


def distil(make_task: MakeTask, **match: Any) -> DistilledSet:
    return method(**match).distill(make_task("dc", ipc=2, match={**MATCH, **match}), None)


def class_batches(task: Task) -> list[tuple[Tensor, Tensor]]:
    train = task.data.train
    members = [torch.nonzero(train.labels == label).flatten() for label in range(3)]
    return [(train.images(index), train.labels[index]) for index in members]


def regularised_by_hand(model: nn.Module, images: Tensor, labels: Tensor, weights: list[nn.Parameter]) -> list[Tensor]:
    x = images.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model(x), labels), x)
    h = H_RMS * images[0].numel() ** 0.5
    z = torch.stack([h * row / row.norm() for row in g])
    here, there = F.cross_entropy(model(images), labels), F.cross_entropy(model(images + z), labels)
    return list(torch.autograd.grad(here + WEIGHT * (there - here).abs(), weights))


@pytest.mark.parametrize("network", ["convnet3", "convnet3-bn"])
def test_with_the_hook_the_target_is_the_gradient_of_the_regularised_loss(make_task: MakeTask, network: str) -> None:
    task, guarded = make_task("dc"), method(network=network)
    hook = CurvatureHook(h_rms=H_RMS, weight=WEIGHT)
    wrap_guarded(guarded, hook)
    model = task.network(network, stage="test").eval()
    weights = matched_parameters(model.network, "layerwise")
    targets = guarded.matching_target(model, class_batches(task))
    for target, (images, labels) in zip(targets, class_batches(task), strict=True):
        expected = regularised_by_hand(model, images, labels, weights)
        plain = torch.autograd.grad(F.cross_entropy(model(images), labels), weights)
        for ours, hand, bare in zip(target, expected, plain, strict=True):
            change = (hand - bare).abs().max()
            assert change > 1e-4, "the term must matter for this comparison to say anything"
            assert (ours - hand).abs().max() <= 1e-4 * change.clamp_min(bare.abs().max())
    assert hook.summary().regularised_steps == 1


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("network", ["convnet3", "convnet3-bn"])
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(
    make_task: MakeTask, monkeypatch: pytest.MonkeyPatch, network: str, hooked: bool
) -> None:
    task, guarded = make_task("dc"), method(network=network)
    model = task.network(network, stage="test").double().eval()
    batches = [(images.double(), labels) for images, labels in class_batches(task)]
    weights = matched_parameters(model.network, "layerwise")
    if hooked:
        wrap_guarded(guarded, CurvatureHook(h_rms=H_RMS, weight=WEIGHT))
    calls: list[int] = []
    model.register_forward_hook(lambda _model, args, _logits: calls.append(len(args[0])))
    monkeypatch.setattr("guard_dc.chunked.PART_PIXELS", 4 * 64)
    targets = guarded.matching_target(model, batches)
    assert calls[:2] == [4, 2]  # of the six images of a class
    for target, (images, labels) in zip(targets, batches, strict=True):
        whole = (
            regularised_by_hand(model, images, labels, weights)
            if hooked
            else torch.autograd.grad(F.cross_entropy(model(images), labels), weights)
        )
        torch.testing.assert_close(list(target), list(whole), rtol=1e-9, atol=1e-11)


def test_the_hook_acts_once_per_image_step_and_nowhere_else(make_task: MakeTask) -> None:
    hook, guarded = CurvatureHook(h_rms=H_RMS, weight=WEIGHT), method()
    wrap_guarded(guarded, hook)
    guarded.distill(make_task("dc", ipc=2, match=MATCH), None)
    # 2 networks, 2 image steps each; the training of the network between them takes 3 epochs of 2 steps, unseen.
    assert (hook.summary().steps, hook.summary().regularised_steps) == (4, 4)


def test_every_counts_image_steps_not_classes(make_task: MakeTask) -> None:
    hook, guarded = CurvatureHook(h_rms=H_RMS, weight=WEIGHT, every=2), method()
    wrap_guarded(guarded, hook)
    guarded.distill(make_task("dc", ipc=2, match=MATCH), None)
    assert (hook.summary().steps, hook.summary().regularised_steps) == (4, 2)


def test_the_hook_changes_the_images_and_a_weight_of_zero_does_not(make_task: MakeTask) -> None:
    plain = distil(make_task).images
    results = []
    for weight in (0.0, 5.0):
        guarded = method()
        wrap_guarded(guarded, CurvatureHook(h_rms=H_RMS, weight=weight))
        results.append(guarded.distill(make_task("dc", ipc=2, match=MATCH), None).images)
    torch.testing.assert_close(results[0], plain, atol=1e-6, rtol=0)
    assert (results[1] - plain).abs().max() > 1e-3


def published_loop(task: Task, *, outer: int, inner: int, iterations: int) -> Tensor:
    """The published algorithm written out plainly (one summed distance, one backward), with the run's randomness."""
    images = torch.randn((6, 3, 8, 8), generator=task.seeds.generator("match", "start")).requires_grad_()
    labels = torch.arange(3).repeat_interleave(2)
    optimizer = torch.optim.SGD([images], lr=0.1, momentum=0.5)
    real = Classwise(task.data.train, 3)
    mean, std = torch.tensor(task.data.mean).view(1, 3, 1, 1), torch.tensor(task.data.std).view(1, 3, 1, 1)
    for it in range(iterations):
        net = task.network("convnet3", stage=f"match/{it}").network
        sgd = torch.optim.SGD(net.parameters(), lr=0.01)
        for ol in range(outer):
            loss = torch.zeros(())
            for c in range(3):
                x = (real.draw(c, 5, task.seeds.generator("match", "real", c, it, ol)) - mean) / std
                everything = list(net.parameters())
                g_real = torch.autograd.grad(F.cross_entropy(net(x), torch.full((5,), c)), everything)
                own = images[labels == c]
                g_own = torch.autograd.grad(
                    F.cross_entropy(net(own), torch.full((2,), c)), everything, create_graph=True
                )
                loss = loss + gradient_distance(g_own, [g.detach() for g in g_real], "layerwise")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                images.copy_(torch.minimum(torch.maximum(images, (0 - mean) / std), (1 - mean) / std))
            if ol == outer - 1:
                break
            for epoch in range(inner):
                order = torch.randperm(6, generator=task.seeds.generator("match", "inner", it, ol, epoch))
                for index in order.split(4):
                    sgd.zero_grad()
                    F.cross_entropy(net(images.detach()[index]), labels[index]).backward()
                    sgd.step()
    return (images.detach() * std + mean).clamp(0, 1)


def test_agrees_with_the_published_loop_written_out(make_task: MakeTask) -> None:
    expected = published_loop(make_task("dc", ipc=2, match=MATCH), outer=2, inner=3, iterations=2)
    ours = distil(make_task)
    torch.testing.assert_close(ours.images, expected, atol=1e-4, rtol=0)
    assert ours.labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "match",
    [{}, {"distance": "mse"}, {"distance": "cos"}, {"start": "real"}, {"augment": "dsa"}, {"network": "convnet3-bn"}],
)
def test_every_option_gives_valid_pixels_that_depend_on_the_seed_alone(
    make_task: MakeTask, match: dict[str, Any]
) -> None:
    first = distil(make_task, **match)
    torch.rand(7)  # a stray draw from the global stream
    again = distil(make_task, **match)
    assert torch.equal(first.images, again.images)
    assert first.images.shape == (6, 3, 8, 8)
    if match:
        assert not torch.equal(first.images, distil(make_task).images)


def test_the_images_are_projected_to_valid_pixels_at_every_step(make_task: MakeTask) -> None:
    """What leaves the optimisation is what is stored: the clamp at the end finds nothing to do."""
    distilled = distil(make_task, lr_images=50.0)
    on_border = ((distilled.images < 1e-6) | (distilled.images > 1 - 1e-6)).float().mean()
    assert on_border > 0.05
    assert distilled.images.min() >= 0
    assert distilled.images.max() <= 1


def test_more_images_than_a_class_has_start_from_repeated_real_ones(make_task: MakeTask) -> None:
    task = make_task("dc", ipc=8, match={**MATCH, "start": "real", "iterations": 1, "lr_images": 1e-9})
    settings = {"start": "real", "iterations": 1, "lr_images": 1e-9}
    distilled = method(**settings).distill(task, None)
    assert len(distilled.images) == 24
    assert len(distilled.images[distilled.labels == 0].unique(dim=0)) == 6


def test_an_unknown_augmentation_and_an_empty_class_are_refused_at_once(make_task: MakeTask) -> None:
    with pytest.raises(ValidationError, match="no augmentation is called 'colour'; join some of color, crop"):
        distil(make_task, augment="dsa", strategy="colour_flip")
    task = make_task("dc", ipc=2)
    train = task.data.train
    kept = torch.nonzero(train.labels != 1).flatten()
    data = Data(**{**vars(task.data), "train": TensorSplit(train.images(kept), train.labels[kept])})
    with pytest.raises(DataError) as caught:
        method().distill(Task(**{**vars(task), "data": data}), None)
    assert "class 'b' has no training image" in str(caught.value)


def test_batchnorm_is_frozen_on_real_images_for_matching(make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []
    original = DC.matching_target

    def spy(self: DC, model: Any, batches: Any) -> Any:
        layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
        seen.append((any(layer.training for layer in layers), all(layer.running_mean.any() for layer in layers)))  # type: ignore[union-attr]
        return original(self, model, batches)

    monkeypatch.setattr(DC, "matching_target", spy)
    distil(make_task, network="convnet3-bn")
    assert seen == [(False, True)] * 4


def test_students_and_hard_labels_are_its_defaults(make_task: MakeTask) -> None:
    student = make_task("dc", dataset="folder").config.student
    assert (student.network, student.protocol, DC.labels, DC.uses_teacher) == ("convnet3", "dc", "hard", False)
