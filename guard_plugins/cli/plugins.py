"""``guard-plugins``: what is installed, from metadata alone; ``--check`` loads it; ``new`` starts a plugin."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guard_plugins._version import __version__
from guard_plugins.cli.exit_codes import exit_code
from guard_plugins.cli.export import add_export, export
from guard_plugins.cli.paths import path_argument
from guard_plugins.host.discovery import catalogue, described
from guard_plugins.host.plugin_file import file_entries, files_of_environment

if TYPE_CHECKING:
    from guard_plugins.host import Registry


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 where ``--check`` finds a broken plugin, 2 for wrong input."""
    return exit_code(lambda: _command(_parser().parse_args(argv)))


def _command(options: argparse.Namespace) -> int:
    if options.command == "new":
        return _new_file(options.name, options.into) if options.file else _new(options.name, options.into)
    if options.command == "export":
        return export(options.run, options.format, options.output)
    return _list(as_json=options.json, check=options.check)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="guard-plugins",
        usage="%(prog)s [-h] [--json] [--check] [--version] [COMMAND ...]",  # argparse would have it required
        description="List the installed plugins. GUARD_PLUGINS=a,b restricts them, and 'a@DISTRIBUTION,*' chooses "
        "between two of one name; GUARD_PLUGIN_FILES names files that are plugins; GUARD_STRICT_PLUGINS=1 makes a "
        "broken one an error.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--check", action="store_true", help="load every plugin in a process of its own, and say whether it works"
    )
    parser.add_argument("--version", action="version", version=f"guard-plugins {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND", prog=parser.prog)
    new = commands.add_parser(
        "new", help="write a complete plugin to start from: guard-plugins new NAME",
        description="Write a complete plugin with one method, to start from.",
    )  # fmt: skip
    new.add_argument("name", metavar="NAME", help="name of the method, as in guard-run --method NAME")
    new.add_argument(
        "--into", type=path_argument, default=Path(), metavar="DIR", help="where to put guard-NAME (default: here)"
    )
    new.add_argument("--file", action="store_true", help="write one file, NAME.py, for guard-run --plugin NAME.py")
    add_export(commands)
    return parser


def _new(name: str, into: Path) -> int:
    from guard_plugins.scaffold import write_plugin

    folder = write_plugin(name, into)
    sys.stdout.write(
        f"{folder}\nnext: cd {folder} && pip install -e '.[test]' && pytest && guard-run --method {name}\n"
    )
    return 0


def _new_file(name: str, into: Path) -> int:
    from guard_plugins.scaffold import write_file

    path = write_file(name, into)
    sys.stdout.write(f"{path}\nnext: guard-run --plugin {path} --method {name}\n")
    return 0


def _list(*, as_json: bool, check: bool) -> int:
    if not check:
        rows = [described(entry) for entry in [*catalogue(), *file_entries(files_of_environment())]]
        sys.stdout.write((json.dumps(rows, indent=2) if as_json else _text(rows)) + "\n")
        return 0
    from guard_plugins.host import PluginHost
    from guard_plugins.host.checking import PARTS, check_all

    own = PluginHost(only=[])  # first, so that the processes that load the others inherit what it imports
    rows = check_all()
    lines = [_text(rows), *(_line(kind, getattr(own, kind), rows) for kind in PARTS)]
    sys.stdout.write((json.dumps(rows, indent=2) if as_json else "\n".join(lines)) + "\n")
    well = all(row.get("health", "ok") == "ok" and row["status"] != "clash" for row in rows)
    return 0 if well else 1


def _line(kind: str, own: Registry[Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the names of one kind; those of plugins with where they come from."""
    found = {
        name: f"{name} ({row['distribution']} {row['version']})"
        for row in rows
        for name in row.get("parts", {}).get(kind, ())
    }
    from guard_plugins.host.plugin_host import BUILT_IN

    names = {name: name for name in own if own.registered(name).plugin in BUILT_IN} | found
    return f"{own.kind}s: {', '.join(names[name] for name in sorted(names))}"


def _text(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "no plugins installed"
    keys = [
        key for key in ("name", "distribution", "version", "status", "health", "guards") if any(key in r for r in rows)
    ]
    cells = [keys, *([_cell(row.get(key, "")) for key in keys] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(keys))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    for row in rows:
        lines += [f"{row['name']}: {row[key]}" for key in ("reason", "summary") if key in row]
        if row.get("guards") == []:
            lines.append(f"{row['name']}: guards nothing, so the curvature hook does not apply to it")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return ", ".join(value) or "nothing" if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.exit(main())
