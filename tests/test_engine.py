"""Where a run computes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_several_processes_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    output = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "guard_plugins.cli.run"]
    arguments = ["--method", "random", "--device", "cpu", "--output", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode != 0
    assert "error: A run works in one process" in done.stderr
    assert "this is one of 2" in done.stderr
    assert not output.exists()
