"""Runs the experiments and writes RESULTS.md: ``python -m examples.experiments run --data DIR``."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from pathlib import Path

from examples.experiments.plan import Experiment, Run, load
from examples.experiments.results import write_results
from examples.experiments.runner import Runner, records

HERE = Path(__file__).parent
EPILOG = """\
examples:
  python -m examples.experiments list                                         what there is, and what is recorded
  python -m examples.experiments run --data data/cifar10 --jobs 2             everything that has no record yet
  python -m examples.experiments run 'choose-*' 'sre2l/*-0' --data data/cifar10
  python -m examples.experiments results                                      RESULTS.md and figures, from the records

DIR holds train/ and test/ with a folder of images per class; for 'tiny-imagenet/*' it is that data set's own folder.
A run with a record in raw/ is skipped; delete the record to do it again. Folders of runs (teachers, images) stay below
--work; stopped runs go on from there. Rows of RDED, DM and matched images need plugins: pip install
./examples/guard-rded ./examples/guard-dm ./examples/guard-features
"""


def main() -> int:
    """Run the command and return its exit code: 1 if a run failed."""
    options = _parser().parse_intermixed_args()
    experiments = load(HERE / "plans")
    known = [run for experiment in experiments for run in experiment.runs()]
    wanted = _chosen(known, options.names)
    if options.action == "list":
        _list(wanted)
    elif options.action == "run":
        return _run(options, experiments, known, wanted)
    else:
        write_results(HERE, experiments, records(known, HERE / "raw"))
    return 0


def _run(options: argparse.Namespace, experiments: list[Experiment], known: list[Run], wanted: list[Run]) -> int:
    if options.data is None or not (options.data / "train").is_dir():
        raise SystemExit(
            "error: --data must name a folder with train/ and test/, each with a folder of images per class"
        )
    runner = Runner(options.data.resolve(), options.work.resolve(), HERE / "raw", options.jobs)
    try:
        runner.do(wanted, known)
    finally:
        write_results(HERE, experiments, records(known, HERE / "raw"))
    return 1 if runner.failed else 0


def _chosen(known: list[Run], patterns: list[str]) -> list[Run]:
    chosen = [run for run in known if not patterns or any(fnmatch.fnmatch(run.name, each) for each in patterns)]
    if not chosen:
        raise SystemExit(f"error: no run is called {' or '.join(patterns)}; 'list' shows the names")
    return chosen


def _list(runs: list[Run]) -> None:
    for run in runs:
        done = "recorded" if (HERE / "raw" / f"{run.name}.json").exists() else "-"
        print(f"{run.name:40} {done:9} {run.template}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.experiments", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("action", choices=["list", "run", "results"])
    parser.add_argument("names", nargs="*", metavar="RUN", help="only these runs: experiment/row-seed, with * and ?")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the images")
    parser.add_argument("--work", type=Path, default=Path("runs/experiments"), metavar="DIR", help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time, sharing the cores (1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
