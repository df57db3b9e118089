"""Completion scripts for shells, made from the options themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from guard_plugins.config.explain import flag
from guard_plugins.config.presets import PRESETS
from guard_plugins.config.schema import RunConfig
from guard_plugins.config.sources import Parser
from guard_plugins.host.discovery import catalogue


def script(shell: str, commands: Parser) -> str:
    """Return what ``source`` or ``eval`` of the shell takes.

    Args:
        shell: ``bash``, ``zsh`` or ``fish``.
        commands: A parser of the options that are no settings.
    """
    values = _values(commands)
    if shell == "fish":
        return "".join(
            f"complete -c guard-run -l {name[2:]}{f' -x -a {chr(39)}' + ' '.join(known) + chr(39) if known else ''}\n"
            for name, known in values.items()
        )
    head = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    cases = "".join(f"    {name}) words='{' '.join(known)}';;\n" for name, known in values.items() if known)
    return (
        f"{head}_guard_run() {{\n  local words='{' '.join(values)}'\n"
        '  case "${COMP_WORDS[COMP_CWORD-1]}" in\n'
        f"{cases}"
        "  esac\n"
        '  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))\n'
        "}\ncomplete -o default -F _guard_run guard-run\n"
    )


def _values(commands: Parser) -> dict[str, list[str]]:
    """Return every flag with the values that it may have; an empty list where anything goes."""
    found: dict[str, list[str]] = {}
    for action in commands._actions:
        for name in action.option_strings:
            if name.startswith("--"):
                found[name] = [str(choice) for choice in action.choices or ()]
    found |= {flag(path): known for path, known in _settings(RunConfig)}
    methods = sorted({entry.name for entry in catalogue()})
    return found | {"--method": methods, "--preset": sorted(PRESETS)}


def _settings(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _settings(kind, (*above, name))
        else:
            yield (*above, name), _choices(kind)


def _choices(kind: Any) -> list[str]:
    """Return the words of a Literal, also inside of a union."""
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    return [word for part in get_args(kind) for word in _choices(part)]
