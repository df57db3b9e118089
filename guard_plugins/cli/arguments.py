"""From ``guard-run``'s arguments to a configuration: finds the method first, since it decides what may be set."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from guard_plugins import host
from guard_plugins.cli.command import STAGES, command_options, plan_asked, share_asked
from guard_plugins.cli.extras import add_extras, no_run_in
from guard_plugins.cli.gone import require_files, uninstalled
from guard_plugins.config.compose import preset_layer, run_config_class
from guard_plugins.config.layers import Layer, files_of, merged, without
from guard_plugins.config.nearest import nearest
from guard_plugins.config.schema import RunConfig
from guard_plugins.config.sources import ENV_PREFIX, Help, Parser, command_line, environment, yaml_file
from guard_plugins.errors import ConfigError
from guard_plugins.host.plugin_file import files_of_environment
from guard_plugins.host.registry import UnknownNameError
from guard_plugins.runtime.sharing.shares import Share

if TYPE_CHECKING:
    from guard_plugins.method import Method

EPILOG = (
    "Settings come from flags, then environment variables (GUARD_RUN_IPC, GUARD_RUN_TEACHER__EPOCHS), then --config, "
    "then the preset, then the method's defaults. The method's own options, and the defaults of its preset, are listed "
    "by: guard-run --method NAME --dataset NAME --help"
)
ANEW: Final = ("--checkpoint-every", "--plugin", "--log", "--teacher.cache", "--data.cache", "--data.memory")
"""What a resumed run may be given anew; it changes no number."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        config: The resolved configuration.
        print_only: Whether only to print it.
        notes: What the user should know of it, a line each.
        resume: Folder of the run to go on with, or None for a new one.
        plan: Devices per host and hosts to plan for, or None to do the run.
        as_json: Whether the plan is printed as JSON.
        stage: The stage to share, or None.
        share: This process's share of that stage's items, or None.
    """

    config: RunConfig
    print_only: bool = False
    resume: Path | None = None
    notes: tuple[str, ...] = ()
    plan: tuple[int, int] | None = None
    as_json: bool = False
    stage: str | None = None
    share: Share | None = None


def parse(
    argv: Sequence[str],
    *,
    surroundings: bool = True,
    begun: bool = False,
    unread: Collection[tuple[str, ...]] | None = None,
) -> Request:
    """Return what ``argv`` asks for; ``--help`` prints and exits.

    Args:
        argv: The arguments.
        surroundings: Whether environment variables count.
        begun: Whether ``--config`` is of a run that has begun: what it holds was accepted then.
        unread: For a run beside the one that was asked for: options of the latter's method, by path, that ``--config``
            may hold and this method lacks. Settings that do nothing here are then passed over.

    Raises:
        ConfigError: If anything given is wrong.
        PluginError: If the method's plugin is broken.
    """
    early, rest = _early(argv)
    if early.resume:
        return _resumed(early, rest)
    if early.shard or early.stage:
        raise ConfigError(
            "--shard and --stage work on a run that has begun",
            do="Begin with --stop-after teacher; then give --resume RUN --shard I/N --stage STAGE.",
        )
    file = yaml_file(early.config) if early.config else Layer("", {})
    file = replace(file, values=without(file.values, unread or ()))
    file = replace(file, may_be_idle="yes") if begun or unread is not None else file
    named = os.environ.get(f"{ENV_PREFIX}METHOD") if surroundings else None
    name = early.method or named or file.values.get("method")
    files = files_of([file, *([environment(_Files)] if surroundings else []), Layer("", {"plugin": early.plugin})])
    name = name or _only_method(files)
    asks_help = any(flag in rest for flag in ("-h", "--help"))
    parser = command_parser()
    if asks_help and not name:
        parser.epilog = f"The defaults are those without a preset. {EPILOG}"
        command_line(RunConfig, ["--help"], parser)
    if not name:
        raise ConfigError(
            "No method given (--method)",
            seen=f"installed: {', '.join(sorted({entry.name for entry in host.catalogue()})) or 'none'}",
            do=_misspelt(rest, file.values) + "Pick one, for example: guard-run --method sre2l",
        )
    if not files and not files_of_environment():
        host.claims_of(str(name), host.catalogue())  # before anything is imported: a typing error gets a quick answer
    method = host.PluginHost(only=[str(name)], files=files).method(str(name))
    model = run_config_class(method)
    if asks_help:
        _show_defaults(parser, method, file, rest)
    flags = command_line(model, rest, parser)
    flags = flags if unread is None else replace(flags, may_be_idle="yes")
    layers = [file, *([environment(model)] if surroundings else []), flags]
    config = host.resolve(str(name), layers)
    return Request(
        config, early.print_config, notes=_notes(config, method, layers), plan=plan_asked(early), as_json=early.json,
    )  # fmt: skip


def _notes(config: RunConfig, method: type[Method], layers: Sequence[Layer]) -> tuple[str, ...]:
    """Say where a preset for other images than the data set's changes their size."""
    given = merged(*(layer.values for layer in layers))
    if config.preset is not None and given.get("preset") is None:
        return (host.chosen_note(config),)
    size = preset_layer(method, given).values.get("data", {}).get("image_size")
    own = preset_layer(method, {**given, "preset": None}).values.get("data", {}).get("image_size")
    if size is None or size == own or config.data.image_size != size:
        return ()
    return (
        f"note: the preset {config.preset} resizes the images of {config.dataset} to {size} pixels a side "
        "(--data.image-size)",
    )


def _misspelt(arguments: Sequence[str], file: Mapping[str, Any]) -> str:
    """Return the question whether a flag or a key of the file was meant to be the method; empty where none is near."""
    flags = [argument.split("=")[0] for argument in arguments if argument.startswith("-")]
    near = nearest("--method", flags)
    if near:
        return f"Did you mean --method by {near}? "
    near = nearest("method", file)
    return f"Did you mean 'method' by {near!r} in the configuration file? " if near else ""


def _only_method(files: Sequence[Path]) -> str | None:
    """Return the method of the files that ``--plugin`` names, where they bring one and no other.

    Raises:
        PluginError: If a file is broken.
    """
    found = host.PluginHost(only=[], files=files) if files else None
    for broken in found.broken.values() if found else ():
        raise broken.error()
    names = [*found.methods] if found else []
    return names[0] if len(names) == 1 else None


class _Files(BaseModel):
    """The one setting that is asked for before the method is known."""

    plugin: tuple[Path, ...] = ()


def _resumed(early: Any, rest: Sequence[str]) -> Request:
    path, config = early.resume, early.resume / "config.yaml"
    if not config.is_file():
        raise no_run_in(path)
    other = [flag for flag in rest if flag.startswith("-") and not flag.startswith(ANEW)]
    if other:
        raise ConfigError(
            f"A resumed run keeps its configuration: {other[0]} cannot be given with --resume",
            do="Leave it out, or start a new run with --config and another --output.",
        )
    stored = yaml_file(config, "--resume")  # read here too, so that a damaged one is not blamed on --config
    if plan_asked(early):
        raise ConfigError("--plan is for a run that has not begun (--resume)", do="Give the options of the run.")
    if not early.plugin:
        require_files(path, stored.values)
    try:
        resolved = parse([f"--config={config}", *rest], surroundings=False, begun=True).config
    except UnknownNameError as error:
        raise uninstalled(path, error) from None
    return Request(resolved, resume=path, stage=STAGES.get(early.stage), share=share_asked(early))


def _early(argv: Sequence[str]) -> tuple[Any, list[str]]:
    parser = Parser(add_help=False, allow_abbrev=False)
    command_options(parser)
    parser.add_argument("--method")
    parser.add_argument("--plugin", action="append", default=None)
    if argv and not argv[0].startswith("-") and any(word.split("=")[0] == "--method" for word in argv):
        raise ConfigError(f"The method is given twice: {argv[0]!r} and --method", do="Give one of them.")
    early, rest = parser.parse_known_args(_joined_range(_short_teacher(_named_first(argv))))
    files = [f"--plugin={name}" for name in early.plugin or ()]
    return early, ([f"--method={early.method}"] if early.method else []) + files + rest


def _show_defaults(parser: Parser, method: type[Method], file: Layer, argv: Sequence[str]) -> None:
    """Have the help text show the defaults that hold under the preset; a wrong name never stands in its way."""
    with contextlib.suppress(ConfigError):
        preset = preset_layer(method, merged(file.values, _names(argv)))
        parser.presets, parser.epilog = preset.values, f"The defaults are those of {preset.origin}. {EPILOG}"


def _names(argv: Sequence[str]) -> dict[str, str]:
    """Return what the arguments say of data set and preset, which decide on defaults."""
    parser = Parser(add_help=False, allow_abbrev=False)
    for name in ("--dataset", "--preset"):
        parser.add_argument(name)
    return {key: value for key, value in vars(parser.parse_known_args(argv)[0]).items() if value is not None}


def command_parser() -> Parser:
    """Return a parser of the options that are no settings of a run."""
    parser = Parser(
        prog="guard-run", description="guard-run METHOD: train a teacher, distil images, train students, attack all.",
        epilog=EPILOG, allow_abbrev=False, formatter_class=Help,
    )  # fmt: skip
    command_options(parser)
    add_extras(parser)
    return parser


def _named_first(argv: Sequence[str]) -> Sequence[str]:
    """Read a first word that is no flag as the method: ``guard-run cda`` is ``guard-run --method cda``."""
    return ["--method", *argv] if argv and not argv[0].startswith("-") else argv


def _short_teacher(argv: Sequence[str]) -> list[str]:
    """Read ``--teacher PATH`` as ``--teacher.path PATH``."""
    return ["--teacher.path" + arg[9:] if arg == "--teacher" or arg.startswith("--teacher=") else arg for arg in argv]


def _joined_range(argv: Sequence[str]) -> list[str]:
    """Read ``--data.range LOW HIGH`` as ``--data.range=LOW,HIGH``: the parser takes one value for a flag."""
    words = list(argv)
    for n in range(len(words) - 2):
        if words[n] == "--data.range" and "," not in words[n + 1]:
            return [*words[:n], f"--data.range={words[n + 1]},{words[n + 2]}", *words[n + 3 :]]
    return words
