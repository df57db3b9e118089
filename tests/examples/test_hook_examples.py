"""The hook examples run as their readers would run them, and show what they promise."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS = {"hook_plain": "torch", "hook_accelerate": "accelerate", "hook_lightning": "lightning",
         "hook_transformers": "transformers"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS)
def test_example_runs_and_the_hook_helps(name: str) -> None:
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    path = os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(EXAMPLES / f"{name}.py")],
        capture_output=True, text=True, timeout=550, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    found = dict(re.findall(r"^(plain|with the hook) .*PGD-20 at 16/255 +([\d.]+)%", run.stdout, re.MULTILINE))
    assert float(found["with the hook"]) > float(found["plain"]) + 3
    assert re.search(r"^regularised steps +(\d+) of \1$", run.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", NEEDS)
def test_the_training_code_names_the_hook_in_one_line_only(name: str) -> None:
    """Everything but ``main`` and the logging callback would run without the package."""
    source = (EXAMPLES / f"{name}.py").read_text()
    loop = source.split("def main(")[0].split("class LogCurvature")[0]
    code = re.sub(r'"""[\s\S]*?"""', "", loop)
    assert "hook(" not in code
    assert "with hook" not in code
    assert source.count("the one line") == 1
