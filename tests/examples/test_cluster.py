"""The job array does a whole run, with a shell in the place of SLURM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "cluster" / "job_array.sh"

SUBMIT = """#!/bin/sh
# Does a job at once, every number of an array, and prints a job number as sbatch does.
set -e
first=0 last=0
for word in "$@"; do
    case $word in
        --array=*) last=${word##*-} ;;
        --wrap=*) work=${word#--wrap=} ;;
    esac
done
for number in $(seq $first $last); do
    SLURM_ARRAY_TASK_ID=$number sh -c "$work" >&2
done
echo "$@" >> "$JOBS"
echo 7
"""


@pytest.mark.slow
def test_the_job_array_does_a_run(tmp_path: Path) -> None:
    submit, command, folder = tmp_path / "submit", tmp_path / "guard-run", tmp_path / "run"
    submit.write_text(SUBMIT)
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m guard_plugins.cli.run "$@"\n')
    for path in (submit, command):
        path.chmod(0o755)
    options = "--method sre2l --dataset digits --ipc 1 --teacher.epochs 1 --recover.iterations 2 --recover.batch 5"
    options += " --student.epochs 1 --evaluation.images 5 --device cpu"
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "SUBMIT": str(submit), "JOBS": str(tmp_path / "jobs"),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        ["sh", str(SCRIPT), str(folder), "2", *options.split()], capture_output=True, text=True, env=environment,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (folder / "report.json").exists()
    jobs = (tmp_path / "jobs").read_text().splitlines()
    assert [job.split("--job-name=")[1].split()[0] for job in jobs] == [
        "teacher", "distill", "students", "evaluate", "report"
    ]  # fmt: skip
    assert all("--dependency=afterok:7" in job for job in jobs[1:])
    assert "2 items made; all items of the stage are finished" not in done.stderr, "each of two jobs makes one of two"
    assert "1 items made; all items of the stage are finished" in done.stderr
