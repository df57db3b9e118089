"""``guard-plugins``: what is installed, from metadata alone; ``--check`` loads it; ``new`` starts a plugin."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guard_plugins._version import __version__
from guard_plugins.cli.exit_codes import exit_code
from guard_plugins.cli.export import add_export, export
from guard_plugins.cli.paths import path_argument
from guard_plugins.host.discovery import Entry, catalogue

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
        description="List the installed plugins. GUARD_PLUGINS=a,b restricts them; GUARD_STRICT_PLUGINS=1 makes a "
        "broken one an error.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="load every plugin and say whether it works")
    parser.add_argument("--version", action="version", version=f"guard-plugins {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND", prog=parser.prog)
    new = commands.add_parser("new", help="write a complete plugin to start from: guard-plugins new NAME")
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
    rows = [_row(entry) for entry in catalogue()]
    healthy, parts = _check(rows) if check else (True, [])
    sys.stdout.write((json.dumps(rows, indent=2) if as_json else "\n".join([_text(rows), *parts])) + "\n")
    return 0 if healthy else 1


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name, "distribution": entry.distribution, "version": entry.version, "status": entry.status,
    }  # fmt: skip


def _check(rows: list[dict[str, Any]]) -> tuple[bool, list[str]]:
    """Complete every enabled row; return whether all are well, and one line for every other kind of part."""
    from guard_plugins.host import PluginHost

    host = PluginHost()
    for row in rows:
        name = row["name"]
        if name in host.broken:
            row |= {"health": "broken", "reason": host.broken[name].reason}
        elif row["status"] == "enabled":
            row["health"] = "ok"
            if name in host.methods:
                method = host.methods[name]
                row |= {"guards": list(method.guarded), "summary": method.summary}
    healthy = not host.broken and all(row["status"] != "clash" for row in rows)
    return healthy, [_line(registry) for registry in (host.datasets, host.networks, host.attacks)]


def _line(registry: Registry[Any]) -> str:
    """Return the names of one kind; those of other distributions with where they come from."""
    own = f"guard-plugins {__version__}"
    origins = {name: registry.registered(name).origin for name in sorted(registry)}
    names = [name if origin == own else f"{name} ({origin})" for name, origin in origins.items()]
    return f"{registry.kind}s: {', '.join(names)}"


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
