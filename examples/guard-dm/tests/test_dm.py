"""The contract every method keeps, and what is particular to DM."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from guard_dm.config import DMConfig, DMOptions
from guard_dm.method import DM
from guard_plugins.data.dsa import siamese_augment
from guard_plugins.testing import check_installed, check_method, tiny_task
from guard_plugins.testing.fixtures import TinyRun

QUICK = {"dm": {"iterations": 4, "batch_real": 8}}


def test_the_contract() -> None:
    check_method(DM, settings=QUICK)


def test_it_is_installed() -> None:
    check_installed("dm")


def test_a_run_says_that_the_hook_does_not_apply(tiny_run: TinyRun) -> None:
    report, folder = tiny_run("dm", **QUICK)
    assert (report.guard, report.hook, report.models.teacher) == (None, None, None)
    texts = [json.loads(line).get("text", "") for line in (folder / "events.jsonl").read_text().splitlines()]
    assert any("The curvature hook does not apply to the method 'dm'" in text for text in texts)


def test_the_distance_is_that_of_the_mean_features_of_real_and_synthetic_images() -> None:
    task, seen = tiny_task(DM, settings={"ipc": 3}), []

    class Noted(DM):
        def _distance(self, *arguments: Any) -> torch.Tensor:
            seen.append((arguments[4].detach().clone(), super()._distance(*arguments).detach()))
            return seen[-1][1] + arguments[4].sum()

    Noted(DMConfig(dm=DMOptions(iterations=1, batch_real=12, strategy="cutout"))).distill(task, None)
    images, distance = seen[0]
    network = task.network("convnet3", stage="dm/0")
    naive = 0.0
    for label in range(10):
        real = network.normalise(task.data.train.images(torch.nonzero(task.data.train.labels == label).flatten()))
        both = [real, images[3 * label : 3 * label + 3]]
        seed = task.seeds.derive("dm", "augment", 0, label)
        means = [network.network.features(siamese_augment(x, "cutout", seed=seed)).flatten(1).mean(0) for x in both]
        naive += float(((means[0] - means[1]).detach() ** 2).sum())
    assert float(distance) == pytest.approx(naive, rel=1e-4)


def test_real_images_of_the_whole_class_are_at_distance_zero() -> None:
    task = tiny_task(DM, settings={"ipc": 12})  # the tiny task has 12 real images of every class
    method = DM(DMConfig(dm=DMOptions(iterations=1)))
    method_images = method.distill(task, None).images
    for label in range(10):
        real = task.data.train.images(torch.nonzero(task.data.train.labels == label).flatten())
        distilled = method_images[12 * label : 12 * (label + 1)]
        assert torch.allclose(real.sum(0), distilled.sum(0), atol=1e-3)
