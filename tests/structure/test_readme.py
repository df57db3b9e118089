"""What the README and the first pages of the documents show, works: the loop is run, commands are parsed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from guard_plugins.artifacts.sets.distilled import save_distilled
from guard_plugins.cli.arguments import parse
from guard_plugins.cli.extras import take
from guard_plugins.data.distilled import DistilledSet

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("usage.md", "tutorial.md", "index.md"))
COMMANDS = [
    line.split("#")[0].split("&&")[-1].strip(" $")
    for block in re.findall(r"```sh\n(.*?)```", README + DOCS, re.DOTALL)
    for line in block.splitlines()
    if line.split("&&")[-1].strip(" $").startswith("guard-run")
]
RESULT, LOOP = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_images_are_read_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = DistilledSet(torch.rand(100, 1, 8, 8), torch.arange(100) // 10)
    save_distilled(tmp_path / "runs/digits/distilled", made, tuple("0123456789"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(RESULT, names)  # the README's own code
    assert names["images"].shape == (100, 1, 8, 8)
    assert torch.equal(names["labels"], made.labels)


def test_the_loop_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(LOOP, names)  # the README's own code
    steps = len(names["loader"])
    assert capsys.readouterr().out.splitlines()[0].split() == ["regularised", "steps", str(steps), "of", str(steps)]
    images, labels = names["everything"].tensors
    with torch.no_grad():
        assert (names["model"](images).argmax(1) == labels).float().mean() > 0.5


def test_one_command_installs_and_does_the_main_job() -> None:
    assert "```sh\npip install . && guard-run sre2l --output runs/digits\n```" in README


def test_it_is_short() -> None:
    assert len(README.split()) <= 600


@pytest.mark.parametrize("command", [c for c in COMMANDS if not re.search("--(help|resume|config)", c)])
def test_every_guard_run_command_is_valid(command: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    words = [word.replace("photos", str(tmp_path / "photos")) for word in shlex.split(command)[1:]]
    extras, rest = take(words)
    assert parse(rest).config.method
    assert extras.series == ("--seeds" in command)


def test_every_link_leads_somewhere() -> None:
    for document in (
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").glob("*.md")),
    ):
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if not target.startswith(("http", "mailto")):
                assert (document.parent / target).exists(), f"{document.name}: {target}"
