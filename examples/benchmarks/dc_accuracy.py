"""What students learn from DC's images and from the published loop's: ``python -m examples.benchmarks.dc_accuracy``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor
from torch.nn import functional as F

from examples.benchmarks.distillation import PreparedMethod, subject_on
from examples.benchmarks.published_dc import published_dc
from examples.benchmarks.stored import store
from guard_plugins.config import RunConfig
from guard_plugins.evaluation.predictions import clean_accuracy
from guard_plugins.host import PluginHost
from guard_plugins.host.configure import configure
from guard_plugins.runtime.task import Task


def main(arguments: Sequence[str] | None = None) -> int:
    """Distil both ways from the same start, networks and real images, train students on each, print their scores."""
    chosen = _parser().parse_args(arguments)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    config = _config(chosen)
    data = PluginHost(only=["dc"]).datasets["folder"]().load(config.data_request())
    accuracies = compare(subject_on(data, config), students=chosen.students, epochs=chosen.epochs)
    for name, values in accuracies.items():
        spread = stdev(values) if len(values) > 1 else 0.0
        sys.stdout.write(f"{name:<10} {fmean(values):6.2f} +- {spread:.2f} %  {len(values)} students\n")
    sys.stdout.write(f"difference {fmean(accuracies['ours']) - fmean(accuracies['published']):+.2f} points\n")
    if chosen.json:
        rounded = {name: [round(value, 2) for value in values] for name, values in accuracies.items()}
        store(chosen.json, "examples.benchmarks.dc_accuracy", arguments, rounded, device=torch.device("cpu"))
    return 0


def compare(subject: PreparedMethod, *, students: int, epochs: int) -> Mapping[str, list[float]]:
    """Return the clean accuracies in percent of students on the images of either loop.

    Number k of both has the same first weights, and sees the images as they were optimised: the published loop's may
    lie outside of [0, 1].

    Args:
        subject: DC without the hook.
        students: Students on either set.
        epochs: Epochs of each.
    """
    task, match = subject.task, subject.task.config.match  # type: ignore[attr-defined]  # a field of the method's own
    frame = task.network(match.network, stage="match/frame")
    images = {
        "published": published_dc(
            task, network=match.network, iterations=match.iterations, outer=match.outer, inner=match.inner,
            real_batch=match.real_batch,
        ).cpu(),
        "ours": frame.cpu().normalise(subject.method.distill(task, None).images),
    }  # fmt: skip
    return {
        name: [student_accuracy(task, normalised, number=number, epochs=epochs) for number in range(students)]
        for name, normalised in images.items()
    }


def student_accuracy(task: Task, normalised: Tensor, *, number: int, epochs: int) -> float:
    """Return the clean test accuracy in percent of one student trained as DC's code trains its own.

    SGD at 0.01 with momentum 0.9 and weight decay 5e-4 on batches of 256, a tenth of the rate (and a new optimiser)
    from the middle of the epochs on, no augmentation.

    Args:
        task: Gives network, test images, seeds and device.
        normalised: Images class by class in normalised space, shape (classes * ipc, C, H, W).
        number: Which student.
        epochs: Passes over the images.
    """
    stage = f"student/{number}"
    model = task.network(task.config.student.network, stage=stage).train()
    images, labels = normalised.to(task.device), torch.arange(task.classes).repeat_interleave(task.ipc).to(task.device)
    for rate, share in ((0.01, epochs // 2 + 1), (0.001, epochs - epochs // 2)):
        sgd = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
        for epoch in range(share):
            order = torch.randperm(len(images), generator=task.seeds.generator(stage, str(rate), epoch))
            for index in order.to(task.device).split(256):
                sgd.zero_grad()
                F.cross_entropy(model.network(images[index]), labels[index]).backward()
                sgd.step()
    test = task.data.test
    pixels = test.images(torch.arange(len(test)))
    return 100 * clean_accuracy(model.eval(), pixels, test.labels, batch_size=50)


def _config(chosen: argparse.Namespace) -> RunConfig:
    match = {"iterations": chosen.iterations, "real_batch": chosen.real_batch, "outer": 1, "inner": 1}
    return configure(
        "dc", dataset="folder", data_root=chosen.data_root, preset="fast", ipc=1, seed=chosen.seed, match=match,
        data={"test_per_class": chosen.test_per_class}, student={"network": "convnet3"}, no_guard=True,
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks.dc_accuracy", description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True, help="class folders of CIFAR-10, train/ and test/")
    parser.add_argument("--iterations", type=int, default=100, help="networks that are matched")
    parser.add_argument("--real-batch", type=int, default=64, help="real images per class and image step")
    parser.add_argument("--students", type=int, default=5, help="students on either set")
    parser.add_argument("--epochs", type=int, default=300, help="epochs of every student")
    parser.add_argument("--test-per-class", type=int, default=200, help="test images per class")
    parser.add_argument("--seed", type=int, default=0, help="decides start, networks, real images and students")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: PyTorch's choice)")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
