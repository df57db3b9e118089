"""The default number of images attacked at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from guard_plugins import configure
from guard_plugins.evaluation.measure import attack_batch


def fake_task(device: str, side: int, batch_size: int | None) -> Any:
    config = configure("random", evaluation={"batch_size": batch_size})
    data = SimpleNamespace(image_shape=(3, side, side))
    return SimpleNamespace(config=config, data=data, device=SimpleNamespace(type=device))


@pytest.mark.parametrize(
    ("device", "side", "asked", "expected"),
    [
        ("cpu", 8, None, 500), ("cpu", 32, None, 128), ("cpu", 224, None, 2), ("cpu", 1000, None, 1),
        ("cuda", 32, None, 500), ("cuda", 224, None, 500), ("cpu", 32, 7, 7), ("cuda", 32, 7, 7),
    ],
)  # fmt: skip
def test_a_cpu_gets_few_pixels_at_a_time(device: str, side: int, asked: int | None, expected: int) -> None:
    assert attack_batch(fake_task(device, side, asked)) == expected
