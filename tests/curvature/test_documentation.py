"""The documentation page runs, and explains every error there is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from guard_plugins.curvature.messages import about_inputs, about_losses, about_models, about_steps
from guard_plugins.errors import HookError

PAGE = (Path(__file__).parents[2] / "docs" / "hook.md").read_text()


def test_the_snippets_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 5
    exec("\n".join(blocks), {})


def _raised() -> list[HookError]:
    samples = {
        str: "Net", Exception: RuntimeError("x"), Tensor: torch.zeros(2), bool: True, float: 1.0, int: 2,
        tuple[int, ...]: (2, 3), Sequence[str]: ["a (2,)", "b (3,)"],
    }  # fmt: skip
    found = []
    functions = [
        f
        for module in (about_inputs, about_losses, about_models, about_steps)
        for _, f in inspect.getmembers(module, inspect.isfunction)
    ]
    for function in functions:
        signature = inspect.signature(function, eval_str=True)
        if signature.return_annotation is HookError:
            found.append(function(*[samples[p.annotation] for p in signature.parameters.values()]))
    return found


def test_every_error_is_explained_and_has_three_parts() -> None:
    errors = _raised()
    assert len(errors) >= 14
    explained = re.findall(r"^\| ([^|]+?) \|", PAGE, re.MULTILINE)
    for error in errors:
        assert error.seen
        assert error.do
        keys = [row for row in explained if row.split(" (")[0] in error.what]
        assert keys, f"docs/hook.md does not explain: {error.what}"
