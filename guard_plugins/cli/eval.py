"""``guard-eval``: attack any checkpoint, or students trained on any distilled set."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from guard_plugins._version import __version__
from guard_plugins.cli.exit_codes import exit_code
from guard_plugins.runtime.malloc import keep_freed_memory
from guard_plugins.runtime.sharing.world import require_one_process

if TYPE_CHECKING:
    from guard_plugins.artifacts.evaluation import Evaluation


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    It is 0, 1 where a set is not what it says, 2 for wrong input, 1 for other errors, 128 + n after signal n.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--version" in arguments:
        sys.stdout.write(f"guard-eval {__version__}\n")
        return 0
    return exit_code(lambda: _eval(arguments))


def _eval(arguments: Sequence[str]) -> int:
    from guard_plugins.cli.eval_arguments import parse
    from guard_plugins.cli.published_set import taken, verdict

    published, arguments = taken(arguments)
    request = parse(arguments)
    require_one_process("guard-eval")
    keep_freed_memory()
    # Imported here: torch takes seconds, and help and errors should not.
    from guard_plugins.pipeline.standalone.evaluate import evaluate
    from guard_plugins.pipeline.standalone.state_folder import discard
    from guard_plugins.report.markdown import evaluation_table

    unfinished = request.output.with_suffix(".unfinished") if request.output is not None else None
    found = evaluate(request, keep=unfinished, of_card=published is not None)
    sys.stdout.write(evaluation_table(found) + "\n")
    for line in _gate_lines(found):
        sys.stderr.write(line + "\n")
    if request.output is not None and unfinished is not None:
        _write(found, request.output)
        discard(unfinished)
    if published is None:
        return 0
    good, lines = verdict(published, found.model)
    sys.stdout.write("\n".join([*lines, _conclusion(published, lines)]) + "\n")
    return 0 if good else 1


def _conclusion(published: Path, lines: Sequence[str]) -> str:
    compared = [line for line in lines if line.startswith(("agrees", "DIFFERS"))]
    other, left = sum(line.startswith("DIFFERS") for line in compared), len(lines) - len(compared)
    if not other:
        rest = f" {left} of its numbers were not measured." if left else ""
        return f"The report of {published} holds: no number differs by more than chance explains.{rest}"
    return f"The report of {published} does not hold: {other} of {len(compared)} numbers differ by more than chance."


def _gate_lines(found: Evaluation) -> list[str]:
    """Return what the release gate says: a line for every failed item, then one for every warning."""
    from guard_plugins.report.gate import failed_lines

    warnings = [
        f"release gate, warning for the {found.kind}: {item.name}: {item.figure}. It suggests: {item.suggests}"
        for item in found.gate
        if item.verdict == "warning"
    ]
    return failed_lines(found.kind, found.gate) + warnings


def _write(found: Evaluation, output: Path) -> None:
    import platform
    from importlib.metadata import version

    from guard_plugins.artifacts.atomic import write_text
    from guard_plugins.attacks.base import display_names
    from guard_plugins.host import PluginHost
    from guard_plugins.report.page import evaluation_page

    if output.suffix == ".html":
        command = shlex.join([PurePath(sys.argv[0]).name, *sys.argv[1:]])
        facts = f"guard-plugins {__version__}, torch {version('torch')}, pyautoattack {version('pyautoattack')}, "
        facts += f"python {platform.python_version()}, {platform.platform()}; {found.seconds:.1f} s."
        names = display_names(PluginHost().attacks)
        write_text(output, evaluation_page(found, command=command, facts=facts, names=names))
    write_text(output.with_suffix(".json"), found.model_dump_json(indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
