"""docs/soft-labels.md says what is so: its loop runs, its bytes are those of the layouts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from guard_plugins.artifacts.formatting import byte_count
from guard_plugins.artifacts.sets.distilled import save_distilled
from guard_plugins.labels.layout import Layout
from guard_plugins.training.recipes import RECIPES
from tests.labels.conftest import World

PAGE = (Path(__file__).parents[2] / "docs" / "soft-labels.md").read_text(encoding="utf-8")
DIGITS = replace(RECIPES["one-cycle"], epochs=150, augment="none")


def test_the_loop_runs_as_it_stands(
    world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = world("cifar", epochs=2)
    (tmp_path / "runs" / "stored").mkdir(parents=True)
    one.write("runs/stored/labels")
    save_distilled(tmp_path / "runs" / "stored" / "distilled", one.distilled, "abcdefghij")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, torch.Tensor] = {}
    exec(code, names)  # the page's own code
    assert names["views"].shape == (28, 1, 8, 8)
    assert names["logits"].shape == (28, 10)


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        ("digits, 10 per class, preset `digits`", Layout.of(DIGITS, images=100, classes=10, size=(8, 8))),
        (
            "CIFAR-100, 50 per class, `sre2l-cifar`",
            Layout.of(RECIPES["sre2l-cifar"], images=5000, classes=100, size=(32, 32)),
        ),
        (
            "ImageNet-1k, 50 per class, `sre2l`",
            Layout.of(RECIPES["sre2l"], images=50_000, classes=1000, size=(224, 224)),
        ),
    ],
)
def test_the_table_is_what_a_run_says(row: str, layout: Layout) -> None:
    total = layout.bytes_of(layout.epochs)
    assert f"| {row} | {total:,} ({byte_count(total)}) |" in PAGE
