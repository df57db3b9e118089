"""``guard-report``: any runs side by side in one self-contained page, from their folders alone."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from guard_plugins._version import __version__
from guard_plugins.cli.exit_codes import exit_code
from guard_plugins.cli.paths import path_argument
from guard_plugins.errors import ConfigError

if TYPE_CHECKING:
    from guard_plugins.report.comparison import Comparison

EPILOG = """\
examples:
  guard-report runs/hook runs/plain --output compare.html
  guard-report runs/cda-* --output all.html  (one data set; runs that differ in the seed alone become mean ± sd)

A run on `--method random` among them gives IOR and LRS, a run with --no-guard gives HLR and the gains over it; both
kinds of images again with another --student.augment (none, or any) give ARS.
No model is loaded and nothing is fetched; FILE.json and FILE.md beside the page hold the same numbers.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for wrong input, 1 for other errors."""
    return exit_code(lambda: _report(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="guard-report", description="Compare finished runs: accuracies, curves, images, gate, metrics, cost.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("runs", nargs="+", type=path_argument, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--output", type=path_argument, required=True, metavar="FILE.html", help="the page to write")
    parser.add_argument("--version", action="version", version=f"guard-report {__version__}")
    return parser


def _report(options: argparse.Namespace) -> int:
    paths: Sequence[Path] = options.runs
    output: Path = options.output
    if output.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(
            "The output file must end in .html (--output)", seen=str(output),
            do="The same numbers go beside it as .json and .md.",
        )  # fmt: skip
    # Imported here: matplotlib takes a second, and help and errors should not.
    from guard_plugins.report.write import write_comparison

    repeated = [path for n, path in enumerate(paths) if path.resolve() in {other.resolve() for other in paths[:n]}]
    if repeated:
        raise ConfigError(f"The run {repeated[0]} was given twice", do="Give every run once.")
    comparison = write_comparison(paths, output)
    if sys.stdout.isatty():  # a script reads the path alone
        show_comparison(comparison)
    sys.stdout.write(f"{output}\n")
    return 0


def show_comparison(comparison: Comparison) -> None:
    """Print what a comparison of runs came to: who leads, and the students' accuracies."""
    from guard_plugins.report.terminal import outcome

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    sys.stdout.write(f"\n{outcome(comparison, width=width)}\n\n")


if __name__ == "__main__":
    sys.exit(main())
