"""The job array asks for the stages of a run in their order, on this machine in the place of SLURM."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from guard_plugins.cli.command import STAGES

CLUSTER = Path(__file__).parents[2] / "examples" / "cluster"


def submitted(folder: Path, *, fails: str = "") -> tuple[int, list[str]]:
    """Submit a run of two shares, with a command that only writes down what it is asked; returns code and requests."""
    command = folder / "guard-run"
    writes = f'echo "$CUDA_VISIBLE_DEVICES: $@" >> {folder}/asked'
    command.write_text(f'#!/bin/sh\n{writes}\ncase "$*" in *"{fails or "never"}"*) exit 3;; esac\n')
    command.chmod(0o755)
    environment = {**os.environ, "SUBMIT": f"sh {CLUSTER}/here.sh", "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", str(CLUSTER / "job_array.sh"), "RUN", "2", "--method", "sre2l"], env=environment, check=False
    )
    return done.returncode, (folder / "asked").read_text().splitlines()


def test_the_job_array_asks_for_every_stage_and_share(tmp_path: Path) -> None:
    code, asked = submitted(tmp_path)
    assert code == 0
    teacher, *distill, students, one, two, report = asked
    assert teacher == "0: --method sre2l --output RUN --stop-after teacher"
    assert sorted(distill) == [f"{n}: --resume RUN --stage distill --shard {n}/2" for n in range(2)]
    assert students == "0: --resume RUN --stop-after students"
    assert sorted([one, two]) == [f"{n}: --resume RUN --stage evaluate --shard {n}/2" for n in range(2)]
    assert report == "0: --resume RUN"
    assert {"distill", "evaluate"} <= set(STAGES)


@pytest.mark.parametrize(("fails", "done"), [("teacher", 1), ("--shard 0/2", 3)])
def test_nothing_is_begun_after_a_job_that_failed(tmp_path: Path, fails: str, done: int) -> None:
    code, asked = submitted(tmp_path, fails=fails)
    assert code != 0
    assert len(asked) == done
