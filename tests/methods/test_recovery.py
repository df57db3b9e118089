from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from guard_plugins.errors import ConfigError
from guard_plugins.networks.normalised import Normalised
from guard_plugins.runtime.task import Task
from guard_sre2l.augmentation import random_view
from guard_sre2l.config import RecoverConfig
from guard_sre2l.initialisation import work_list
from guard_sre2l.method import SRe2L
from guard_sre2l.recovery import recover

MakeTask = Callable[..., Task]
QUICK = {"iterations": 6, "lr": 0.1, "jitter": 2, "crop_scale": 0.5, "batch": 4}


def frozen_teacher(task: Task) -> Normalised:
    model = task.network("small-resnet", stage="teacher")
    model(task.data.train.images(torch.arange(18)))  # in training mode: gives the running statistics something
    return model.eval().requires_grad_(False)


def plain_recovery(task: Task, teacher: Normalised, settings: RecoverConfig) -> torch.Tensor:
    """The published loop, written out for batches that mix copies, with the run's randomness."""
    results = []
    for item, labels in enumerate(work_list(task.classes, task.ipc, settings.batch, mix_copies=True)):
        stage = f"recover/{item}"
        x = torch.randn((len(labels), 3, 8, 8), generator=task.seeds.generator(stage, "start")).requires_grad_()
        adam = torch.optim.Adam([x], lr=settings.lr, betas=(0.5, 0.9))
        for t in range(settings.iterations):
            adam.param_groups[0]["lr"] = settings.lr / 2 * (1 + torch.tensor(torch.pi * t / settings.iterations).cos())
            task.seeds.reset(stage, t)
            view = random_view(x, crop_scale=settings.crop_scale, flip=True, jitter=settings.jitter)
            inputs: list[tuple[torch.nn.BatchNorm2d, torch.Tensor]] = []
            handles = [
                layer.register_forward_hook(lambda layer, args, _out, seen=inputs: seen.append((layer, args[0])))
                for layer in teacher.modules() if isinstance(layer, torch.nn.BatchNorm2d)
            ]  # fmt: skip
            loss = F.cross_entropy(teacher.network(view), labels)
            for handle in handles:
                handle.remove()
            # In `modules()` order, the published order, so that the first is the first registered.
            order = [layer for layer in teacher.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
            for number, layer in enumerate(order):
                (u,) = [value for other, value in inputs if other is layer]
                mean = u.mean((0, 2, 3))
                variance = (u - mean.view(1, -1, 1, 1)).square().mean((0, 2, 3))
                gap = (layer.running_var - variance).norm() + (layer.running_mean - mean).norm()  # type: ignore[operator]
                loss = loss + settings.r_bn * (settings.first_bn if number == 0 else 1.0) * gap
            adam.zero_grad()
            loss.backward()
            adam.step()
            with torch.no_grad():
                for channel in range(3):
                    mean_c, std_c = task.data.mean[channel], task.data.std[channel]
                    x[:, channel].clamp_(-mean_c / std_c, (1 - mean_c) / std_c)
        std, mean = torch.tensor(task.data.std).view(1, 3, 1, 1), torch.tensor(task.data.mean).view(1, 3, 1, 1)
        results.append((x.detach() * std + mean).clamp(0, 1))
    return torch.cat(results)


def test_agrees_with_the_published_loop_written_out(make_task: MakeTask) -> None:
    task = make_task("sre2l", ipc=2, recover=QUICK)
    teacher, settings = frozen_teacher(task), RecoverConfig(**QUICK)  # type: ignore[arg-type]
    ours = recover(task, teacher, settings, crop_scale=lambda _step, _total: settings.crop_scale)
    torch.testing.assert_close(ours.images, plain_recovery(task, teacher, settings), atol=2e-5, rtol=0)
    assert ours.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_the_teacher_keeps_the_layout_of_its_weights(make_task: MakeTask) -> None:
    """Another layout would round differently for whoever uses the teacher next, but not after a resume."""
    task = make_task("sre2l", ipc=1, recover=QUICK)
    teacher = frozen_teacher(task)
    strides = [weight.stride() for weight in teacher.parameters()]
    recover(task, teacher, RecoverConfig(**QUICK), crop_scale=lambda *_: 1.0)  # type: ignore[arg-type]
    assert [weight.stride() for weight in teacher.parameters()] == strides
    assert not any(layer._forward_pre_hooks for layer in teacher.modules())


def test_the_curriculum_decides_the_crops(make_task: MakeTask) -> None:
    task = make_task("sre2l", ipc=1, recover=QUICK)
    teacher, settings = frozen_teacher(task), RecoverConfig(**QUICK)  # type: ignore[arg-type]
    asked: list[tuple[int, int]] = []

    def scale(step: int, total: int) -> float:
        asked.append((step, total))
        return 1.0

    recover(task, teacher, settings, crop_scale=scale)
    assert asked == [(step, 6) for step in range(6)]


def test_a_real_start_begins_at_images_of_the_class(make_task: MakeTask) -> None:
    settings = {**QUICK, "start": "real", "patch_scale": 1.0, "iterations": 1, "lr": 1e-7}
    task = make_task("sre2l", ipc=2, recover=settings)
    distilled = recover(task, frozen_teacher(task), RecoverConfig(**settings), crop_scale=lambda *_: 1.0)  # type: ignore[arg-type]
    train = task.data.train
    for image, label in zip(distilled.images, distilled.labels, strict=True):
        members = train.images(torch.nonzero(train.labels == label).flatten())
        assert (members - image).abs().amax((1, 2, 3)).min() < 1e-4


def test_batches_mix_copies_unless_told_otherwise() -> None:
    mixed = work_list(10, 10, 100, mix_copies=True)
    assert [len(labels) for labels in mixed] == [100]
    published = work_list(10, 3, 100, mix_copies=False)
    assert [labels.tolist() for labels in published] == [list(range(10))] * 3
    assert [len(labels) for labels in work_list(250, 1, 100, mix_copies=False)] == [100, 100, 50]


def test_a_teacher_without_batchnorm_is_an_early_error(make_task: MakeTask) -> None:
    task = make_task("sre2l", teacher={"network": "convnet3"})
    with pytest.raises(ConfigError) as caught:
        SRe2L(task.config).check(task, task.network(stage="teacher"))  # type: ignore[arg-type]
    assert "has no BatchNorm layer" in str(caught.value)
    assert "--teacher.network convnet3" in str(caught.value)
    assert "resnet18" in caught.value.do
