"""What the README shows, works: its loop is run, its commands are parsed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

from guard_plugins.cli.arguments import parse

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].split("&&")[-1].strip()
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if "guard-run" in line
]


def test_the_loop_runs_as_it_stands() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    before = model[1].weight.detach().clone()
    loader = [(torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])) for _ in range(3)]
    names = {
        "torch": torch, "model": model, "loader": loader, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }  # fmt: skip
    exec(code, names)  # the README's own code
    assert names["hook"].summary().regularised_steps == 3  # type: ignore[attr-defined]
    assert not torch.equal(model[1].weight, before)


@pytest.mark.parametrize("command", [c for c in COMMANDS if "--help" not in c and "--resume" not in c])
def test_every_guard_run_command_is_valid(command: str) -> None:
    assert parse(shlex.split(command)[1:]).config.method


def test_every_link_leads_somewhere() -> None:
    for document in (
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").glob("*.md")),
    ):
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if not target.startswith(("http", "mailto")):
                assert (document.parent / target).exists(), f"{document.name}: {target}"
