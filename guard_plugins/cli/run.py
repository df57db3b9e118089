"""``guard-run``: teacher, distillation, students, attacks and report in one command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from guard_plugins._version import __version__
from guard_plugins.cli.exit_codes import exit_code
from guard_plugins.cli.malloc import keep_freed_memory
from guard_plugins.runtime.world import require_one_process

if TYPE_CHECKING:
    from guard_plugins.cli.arguments import Request


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for wrong input, 1 for other errors, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exit_code(lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    if "--version" in arguments:
        sys.stdout.write(f"guard-run {__version__}\n")
        return 0
    from guard_plugins.cli.arguments import parse

    request = parse(arguments)
    for note in request.notes:
        sys.stderr.write(note + "\n")
    if request.print_only:
        import yaml

        sys.stdout.write(yaml.safe_dump(request.config.model_dump(mode="json"), sort_keys=False))
        return 0
    require_one_process("guard-run")
    keep_freed_memory()
    if request.plan:
        return _print_plan(request)
    if request.share:
        return _do_share(request)
    # Imported here: torch takes seconds, and help and errors should not.
    from guard_plugins.pipeline.run import do_until, resume, run
    from guard_plugins.report.markdown import table

    if request.stage:
        do_until(request.stage, request.config, request.resume)
        return 0
    report = resume(request.resume, request.config) if request.resume else run(request.config)
    sys.stdout.write(table(report) + "\n")
    return 0


def _do_share(request: Request) -> int:
    from guard_plugins.pipeline.shares import do_share

    assert request.resume is not None and request.share is not None and request.stage is not None  # noqa: PT018
    sys.stdout.write(f"{do_share(request.resume, request.config, request.share, request.stage)}\n")
    return 0


def _print_plan(request: Request) -> int:
    import json

    from guard_plugins.pipeline.planning.plan import plan

    gpus, hosts = request.plan or (1, 1)
    found = plan(request.config, gpus=gpus, hosts=hosts)
    text = json.dumps(found.as_json(), indent=2) if request.as_json else "\n".join(found.lines())
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
