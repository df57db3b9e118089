"""The benchmarks of the methods run both loops and print their ratio."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from guard_plugins.bench import dc, recover
from guard_plugins.bench.distillation import best_seconds, convolution_share, subject
from guard_plugins.bench.published_recover import published_recover


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (dc.main, ["--real-batch", "2", "--iterations", "1"]),
        (recover.main, ["--network", "small-resnet", "--ipc", "1", "--steps", "2", "--profile"]),
    ],
)
def test_commands_print_both_and_the_ratio(command, arguments, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    assert command(["--side", "8", "--rounds", "1", "--threads", "1", "--clock", "cpu", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["published", "ours"]
    assert lines[0].endswith("1.00x")


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
        assert convolution_share(lambda: conv(x)) > 0.9
        assert convolution_share(lambda: x @ x) == 0


def test_the_transcription_recovers_valid_images() -> None:
    task = subject("sre2l", side=8, device="cpu", teacher={"network": "small-resnet"}).task
    teacher = task.network(stage="teacher").eval().requires_grad_(False)
    images = published_recover(teacher, classes=10, ipc=2, side=8, iterations=2, lr=0.25, r_bn=0.01, jitter=2)
    pixels = teacher.pixels(images)
    assert images.shape == (20, 3, 8, 8)
    assert pixels.min() >= -1e-5
    assert pixels.max() <= 1 + 1e-5
