"""The benchmarks of the methods run both loops and print their ratio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from examples.benchmarks import dc, dc_accuracy, recover
from examples.benchmarks.distillation import best_seconds, convolution_share, subject
from examples.benchmarks.published_dc import published_dc
from examples.benchmarks.published_recover import published_recover


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("command", "arguments", "first"),
    [
        (dc.main, ["--real-batch", "2", "--iterations", "1"], "ours"),
        (recover.main, ["--network", "small-resnet", "--ipc", "1", "--steps", "2", "--profile"], "batch 100"),
    ],
)
def test_commands_print_both_and_the_ratio(  # type: ignore[no-untyped-def]
    command, arguments, first, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shared = ["--side", "8", "--rounds", "1", "--threads", "1", "--clock", "cpu", "--json", str(tmp_path / "out.json")]
    assert command([*arguments, *shared]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[:2]] == ["published", first]
    assert "1.00x" in lines[0]
    stored = json.loads((tmp_path / "out.json").read_text())
    results = stored["results"].get("real batch 2", stored["results"])
    assert stored["command"].endswith("out.json")
    assert results["published"]["faster"] == 1
    assert results[first]["faster"] == pytest.approx(results["published"]["ms"] / results[first]["ms"], rel=0.01)


def test_the_best_round_counts_and_the_first_is_not_timed() -> None:
    calls = {"a": 0, "b": 0}

    def run(name: str) -> None:
        calls[name] += 1

    seconds = best_seconds({"a": lambda: run("a"), "b": lambda: run("b")}, rounds=3, clock="wall")
    assert calls == {"a": 4, "b": 4}
    assert all(0 <= spent < 1 for spent in seconds.values())


def test_share_of_convolutions_is_one_where_there_is_nothing_else() -> None:
    conv, x = torch.nn.Conv2d(16, 16, 3), torch.rand(8, 16, 32, 32)
    with torch.no_grad():
        conv(x)  # the first call also prepares the operator
        assert convolution_share(lambda: [conv(x) for _ in range(10)]) > 0.9
        assert convolution_share(lambda: x @ x) == 0


def test_the_transcription_recovers_valid_images() -> None:
    task = subject("sre2l", side=8, device="cpu", teacher={"network": "small-resnet"}).task
    teacher = task.network(stage="teacher").eval().requires_grad_(False)
    images = published_recover(teacher, classes=10, ipc=2, side=8, iterations=2, lr=0.25, r_bn=0.01, jitter=2)
    pixels = teacher.pixels(images)
    assert images.shape == (20, 3, 8, 8)
    assert pixels.min() >= -1e-5
    assert pixels.max() <= 1 + 1e-5


def test_the_transcription_of_dc_meets_the_same_start_network_and_real_images() -> None:
    """After one step all that lies between the two is our projection to valid pixels."""
    match = {"network": "convnet3", "iterations": 1, "outer": 1, "inner": 1, "real_batch": 4}
    ours = subject("dc", side=8, device="cpu", ipc=1, match={**match, "lr_images": 0.1})
    published = ours.task.network("convnet3", stage="match/frame").pixels(published_dc(ours.task, **match))
    assert published.min() < 0
    torch.testing.assert_close(ours.method.distill(ours.task, None).images, published.clamp(0, 1), atol=1e-5, rtol=0)


def test_students_learn_from_both_loops_images() -> None:
    match = {"network": "convnet3", "iterations": 1, "outer": 1, "inner": 1, "real_batch": 2}
    dc_on_noise = subject("dc", side=8, device="cpu", ipc=1, match=match, student={"network": "convnet3"})
    accuracies = dc_accuracy.compare(dc_on_noise, students=2, epochs=2)
    assert [len(accuracies[name]) for name in ("published", "ours")] == [2, 2]
    assert all(0 <= value <= 100 for values in accuracies.values() for value in values)
