"""From guard-eval's arguments to a request: its option model, short forms, and the spellings of earlier versions."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from guard_plugins.config.empty import refuse_empty
from guard_plugins.config.explain import explain
from guard_plugins.config.layers import Layer
from guard_plugins.config.presets import PRESETS
from guard_plugins.config.sources import Help, Parser, command_line
from guard_plugins.errors import ConfigError
from guard_plugins.evaluation.protocols import PROTOCOLS
from guard_plugins.pipeline.standalone.request import EvaluationRequest
from guard_plugins.pipeline.standalone.rules import require_consistent

HELP: Final = "guard-eval --help"

SHORT: Final = {"--teacher": "--teacher.path", "--classes": "--teacher.classes"}
"""Short forms, which stay."""

RENAMED: Final = {
    "--arch": "--teacher.network", "--activation": "--teacher.activation", "--mean": "--teacher.mean",
    "--std": "--teacher.std", "--student": "--student.network", "--seeds": "--student.count",
    "--labels": "--student.labels", "--recipe": "--student.protocol", "--epochs": "--student.epochs",
    "--image-size": "--data.image-size", "--protocol": "--evaluation.protocol", "--eps": "--evaluation.eps",
    "--images": "--evaluation.images", "--batch-size": "--evaluation.batch-size",
}  # fmt: skip
"""Spellings of version 0.1, which still work, and today's."""

NUMBERS: Final = ("--teacher.mean", "--teacher.std", "--evaluation.eps", "--data.range")
"""Options that take several numbers: 1,2,4, or 1 2 4."""

EPILOG: Final = """\
examples:
  guard-eval runs/hook/teacher.safetensors                        a teacher of a run; the file says what it is
  guard-eval net.pth --teacher.network resnet18 --dataset cifar10 --data-root DATA \\
      --teacher.mean 0.4914,0.4822,0.4465 --teacher.std 0.2470,0.2435,0.2616 \\
      --evaluation.protocol standard --evaluation.images 1000
  guard-eval --distilled runs/hook --student.network convnet3 --student.count 3    three students of another network
  guard-eval --distilled runs/hook --teacher runs/hook/teacher.safetensors --output students.html
  guard-eval --distilled runs/kept --student.labels stored        the soft labels a run stored, without its teacher

protocols (--evaluation.protocol):
{protocols}
  or an attack alone, as reports label it: autoattack, pgd-100, ...; along the curve, or at --evaluation.eps

Attacks change pixels in [0, 1]; the normalisation (--teacher.mean, --teacher.std) is part of the model. Files of
weights are read without running code from them. Every evaluation ends with the release gate. Its failures and warnings
go to stderr; after a failure, do not quote the numbers.
"""


def _protocols() -> str:
    """Return the protocols, one below the other, with what they run."""
    lines = (f"  {protocol.name:10} {protocol.summary}" for protocol in PROTOCOLS.values())
    return "\n".join(textwrap.fill(line, width=110, subsequent_indent=" " * 13) for line in lines)


class _Help(argparse.RawDescriptionHelpFormatter, Help):
    """Help texts with defaults, and the examples as they are written."""


def parse(argv: Sequence[str]) -> EvaluationRequest:
    """Return what ``argv`` asks for; ``--help`` prints and exits.

    Raises:
        ConfigError: If anything given is wrong.
    """
    arguments, renamed = current_spelling(argv)
    parser = _parser()
    parser.presets = {name: values for name, values in _preset(arguments).items() if name in ("student", "data")}
    flags = command_line(EvaluationRequest, arguments, parser)
    for old, new in renamed.items():
        sys.stderr.write(f"note: {old} is now called {new}\n")
    if not str(flags.values.get("checkpoint", "left out")).strip():
        raise ConfigError("The name of the checkpoint is empty", do="Give a file, a run or published weights.")
    refuse_empty(EvaluationRequest, flags.values)
    try:
        request = EvaluationRequest.model_validate(flags.values)
    except ValidationError as error:
        raise explain(error, EvaluationRequest, [Layer("", flags.values)], help_command=HELP) from None
    require_consistent(request)
    return request


def current_spelling(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return arguments with today's names of the options, and the old names that were used with the new ones.

    Raises:
        ConfigError: If an option is given under both names.
    """
    arguments: list[str] = []
    renamed: dict[str, str] = {}
    flags = {argument.partition("=")[0] for argument in argv}
    for argument in argv:
        name, equals, value = argument.partition("=")
        if name in RENAMED:
            renamed[name] = RENAMED[name]
            if RENAMED[name] in flags:
                raise ConfigError(f"{name} and {RENAMED[name]} are the same option", do="Give only the second.")
        if _continues(arguments, argument):
            arguments[-1] += f",{argument}"
        else:
            arguments.append({**SHORT, **RENAMED}.get(name, name) + equals + value)
    return arguments, renamed


def _continues(arguments: Sequence[str], argument: str) -> bool:
    """Whether ``argument`` is one more number for the option before it."""
    if not _is_number(argument) or not arguments:
        return False
    flag, equals, _ = arguments[-1].partition("=")
    return (bool(equals) and flag in NUMBERS) or (len(arguments) > 1 and arguments[-2] in NUMBERS)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _preset(arguments: Sequence[str]) -> Mapping[str, Any]:
    """Return the settings of the preset that the arguments lead to, for the defaults in the help text."""
    parser = Parser(add_help=False, allow_abbrev=False)
    for name in ("--dataset", "--preset"):
        parser.add_argument(name)
    asked = parser.parse_known_args(arguments)[0]
    return PRESETS.get(asked.preset or asked.dataset or "digits", {})


def _parser() -> Parser:
    parser = Parser(
        prog="guard-eval", description="Attack a checkpoint, or students trained on a distilled set.",
        epilog=EPILOG.format(protocols=_protocols()),
        formatter_class=_Help, allow_abbrev=False,
    )  # fmt: skip
    parser.help_command = HELP
    parser.add_argument(
        "--set",
        metavar="DIR",
        help="train students by the files of a finished run (config.yaml, report.json, distilled/, "
        "teacher.safetensors) and say whether they are as accurate as its report says",
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    return parser
