"""Does the runs of experiments: what is recorded is skipped, what was stopped goes on, several at once when asked."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from examples.experiments.plan import Run
from examples.experiments.record import Record, write_record

POLL_SECONDS = 1.0


@dataclass
class Runner:
    """Runs commands whose needs are met, a few at a time.

    Attributes:
        data: Folder of the images.
        work: Folder of the runs.
        raw: Folder of the records.
        jobs: Commands at a time; the cores are shared among them.
        failed: Names of the runs that failed, or that need one that did.
    """

    data: Path
    work: Path
    raw: Path
    jobs: int = 1
    failed: set[str] = field(default_factory=set)

    def do(self, wanted: list[Run], known: list[Run]) -> None:
        """Do the runs that have no record, and first what they need.

        Args:
            wanted: Runs to have a record in the end.
            known: All runs there are.
        """
        waiting = self._with_needs([run for run in wanted if not self._record(run).exists()], known)
        going: dict[str, tuple[Run, subprocess.Popen[bytes]]] = {}
        say(f"{len(waiting)} runs to do, {len(wanted)} wanted")
        while waiting or going:
            for run in [run for run in waiting if set(run.needs()) & self.failed]:
                waiting.remove(run)
                self._fail(run, "needs a run that failed")
            ready = [run for run in waiting if all(self._finished(need) for need in run.needs())]
            for run in ready[: self.jobs - len(going)]:
                waiting.remove(run)
                going[run.name] = (run, self._start(run))
            time.sleep(POLL_SECONDS)
            for name, (run, process) in list(going.items()):
                if process.poll() is not None:
                    del going[name]
                    self._end(run, process.returncode)

    def _with_needs(self, wanted: list[Run], known: list[Run]) -> list[Run]:
        by_name, order = {run.name: run for run in known}, dict[str, Run]()

        def add(run: Run) -> None:
            for need in run.needs():
                if need not in by_name:
                    raise SystemExit(f"error: {run.name} needs {need}, which no experiment makes")
                if not self._finished(need):
                    add(by_name[need])
            order.setdefault(run.name, run)

        for run in wanted:
            add(run)
        return list(order.values())

    def _start(self, run: Run) -> subprocess.Popen[bytes]:
        output = self.work / run.output
        output.parent.mkdir(parents=True, exist_ok=True)
        begun = (output / "config.yaml").exists()
        command = ["guard-run", "--resume", str(output)] if begun else run.command(self.data, self.work)
        say(f"{run.name}: {shlex.join(command)}")
        threads = str(max(1, (os.cpu_count() or 1) // self.jobs))
        with Path(f"{output}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": threads},
            )  # fmt: skip

    def _end(self, run: Run, code: int) -> None:
        if code:
            self._fail(run, f"exit code {code}, see {self.work / run.output}.log")
            return
        write_record(self._record(run), run, self.work)
        say(f"{run.name}: done")

    def _fail(self, run: Run, why: str) -> None:
        self.failed.add(run.name)
        say(f"{run.name}: FAILED: {why}")

    def _record(self, run: Run) -> Path:
        return self.raw / f"{run.name}.json"

    def _finished(self, name: str) -> bool:
        """Say whether a run's folder is there and whole: the report is written last."""
        return (self.work / name / "report.json").exists()


def records(runs: list[Run], folder: Path) -> dict[str, Record]:
    """Return the records there are, by the name of their run."""
    paths = {run.name: folder / f"{run.name}.json" for run in runs}
    return {
        name: Record.model_validate(json.loads(path.read_text(encoding="utf-8")))
        for name, path in paths.items()
        if path.exists()
    }


def say(text: str) -> None:
    """Print a line with the time."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)
