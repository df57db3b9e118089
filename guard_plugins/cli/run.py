"""``guard-run``: teacher, distillation, students, attacks and report in one command."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from guard_plugins._version import __version__
from guard_plugins.cli.exit_codes import exit_code
from guard_plugins.errors import ConfigError
from guard_plugins.runtime.malloc import keep_freed_memory
from guard_plugins.runtime.sharing.world import World, require_one_process

if TYPE_CHECKING:
    from guard_plugins.cli.arguments import Request
    from guard_plugins.cli.extras import Extras
    from guard_plugins.pipeline.cores import Beside


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for wrong input, 1 for other errors, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exit_code(lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    # Of several processes, the first prints.
    with contextlib.redirect_stdout(io.StringIO()) if World.of().rank else contextlib.nullcontext():
        return _do(arguments)


def _do(arguments: Sequence[str]) -> int:
    if "--version" in arguments:
        sys.stdout.write(f"guard-run {__version__}\n")
        return 0
    from guard_plugins.cli.extras import take

    extras, rest = take(arguments)
    if extras.listing or extras.completion:
        sys.stdout.write(_listing() if extras.listing else _completion(str(extras.completion)))
        return 0
    _announce(rest, quiet=extras.level == "quiet")
    if extras.series:
        from guard_plugins.cli.series import run_series

        require_one_process("guard-run --seeds or --compare")
        return run_series(rest, extras)
    from guard_plugins.cli.arguments import parse

    request = parse(rest)
    if request.plan or request.share:
        require_one_process(f"guard-run {'--plan' if request.plan else '--shard'}")
    for note in request.notes if World.of().rank == 0 else ():
        sys.stderr.write(note + "\n")
    if request.print_only:
        import yaml

        sys.stdout.write(yaml.safe_dump(request.config.model_dump(mode="json"), sort_keys=False))
        return 0
    keep_freed_memory()
    if request.plan:
        return _print_plan(request)
    if request.share:
        return _do_share(request)
    return _start(request, extras)


def _beside(extras: Extras) -> Beside:
    """Return what a run may start beside it."""
    from guard_plugins.cli.extras import HELPER
    from guard_plugins.pipeline.cores import Beside

    return Beside(extras.processes, HELPER)


def _start(request: Request, extras: Extras) -> int:
    # Imported here: torch takes seconds, and help and errors should not.
    from guard_plugins.cli.show import show

    world = World.of()
    if world.size > 1:
        if extras.processes is not None:
            raise ConfigError(
                "--processes is for a run that one process starts",
                seen="this is one of several processes",
                do="Leave --processes out: the launcher says how many there are.",
            )
        from guard_plugins.pipeline.processes.together import start_together

        done = start_together(
            request.config, world, resumed=request.resume, until=extras.stop_after, level=extras.level
        )
        if isinstance(done, int):
            return done
    else:
        from guard_plugins.pipeline.run import start

        done = start(
            request.config, resumed=request.resume, until=extras.stop_after, level=extras.level, beside=_beside(extras)
        )
    show(done, request.config, level=extras.level)
    return 0


def _announce(arguments: Sequence[str], *, quiet: bool) -> None:
    """Say that something happens while torch is imported, where that is about to be."""
    quiet = quiet or World.of().rank > 0
    silent = {"-h", "--help", "--print-config"} & set(arguments)
    named = any(word.split("=")[0] in ("--method", "--config", "--resume") for word in arguments)
    first = bool(arguments) and not arguments[0].startswith("-")
    if not quiet and not silent and (named or first) and "torch" not in sys.modules:
        sys.stderr.write("loading PyTorch ...\n")
        sys.stderr.flush()


def _listing() -> str:
    from guard_plugins.config.presets import PRESETS
    from guard_plugins.host import catalogue

    methods = sorted({entry.name for entry in catalogue()})
    return (
        f"methods: {', '.join(methods) or 'none'}\npresets: {', '.join(PRESETS)}\n"
        "guard-plugins --check lists data sets, networks, recipes, augmentations and attacks; guard-run METHOD --help "
        "the options of a method\n"
    )


def _completion(shell: str) -> str:
    from guard_plugins.cli.arguments import command_parser
    from guard_plugins.cli.completion import script

    return script(shell, command_parser())


def _do_share(request: Request) -> int:
    from guard_plugins.pipeline.processes.shares import do_share

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
