"""Makes the pictures of the documents: the terminal, a report on a desktop and on a phone, and the documentation site.

    guard-run sre2l --output runs/digits
    sphinx-build docs build/docs
    python -m examples.pictures runs/digits build/docs --output docs/images

Needs Chromium (or Chrome), which takes the pictures without a window. They are reduced to 64 colours.
"""

from __future__ import annotations

import argparse
import html
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from guard_plugins.artifacts.report import Report, read_report
from guard_plugins.errors import ConfigError, GuardError
from guard_plugins.report.runs import load_run
from guard_plugins.report.terminal import summary

MOST_BYTES: Final = 300_000
"""What all pictures together may take."""
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
PHONE: Final = 390
FRAME: Final = 500
"""The narrowest window that Chromium opens without a screen; a narrower page is a frame in it."""
TERMINAL: Final = (
    "<!doctype html><meta charset=utf-8><body style='margin:0;background:#14171c;color:#d5dae1'>"
    "<pre style='margin:16px 20px;font:15px/1.35 DejaVu Sans Mono,monospace'>{}</pre>"
)


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        name: Name of its file, without the ending.
        page: The page.
        width: Width of the window in pixels.
        height: Height of the window in pixels.
    """

    name: str
    page: Path
    width: int
    height: int


def terminal_page(report: Report, *, command: str, names: dict[str, str]) -> str:
    """Return a page that shows what a run ends with on a terminal.

    Args:
        report: The results.
        command: The command that is shown above them.
        names: How attacks are written.
    """
    shown = f"$ {command}\n...\n\n{summary(report, width=100, names=names)}\n"
    return TERMINAL.format(html.escape(shown))


def shots(run: Path, site: Path, scratch: Path) -> list[Shot]:
    """Return the pictures to take of a run and a built site.

    Args:
        run: Folder of a finished run.
        site: Folder of the built site.
        scratch: Where pages may be written.

    Raises:
        ConfigError: If one of them is not there.
    """
    if not (site / "index.html").is_file():
        raise ConfigError(f"There is no built site in {site}", do="Build it: sphinx-build docs build/docs")
    found = load_run(run)
    report = read_report(run / "report.json")
    terminal, phone = scratch / "terminal.html", scratch / "phone.html"
    command = f"guard-run {report.method} --output runs/{report.dataset}"
    terminal.write_text(terminal_page(report, command=command, names=found.attack_names), encoding="utf-8")
    frame = "<!doctype html><body style='margin:0'><iframe style='border:0' width={} height=844 src='{}'></iframe>"
    phone.write_text(frame.format(PHONE, (run / "report.html").resolve().as_uri()), encoding="utf-8")
    return [
        Shot("terminal", terminal, 800, 240),
        Shot("report", run / "report.html", 1100, 1000),
        Shot("report-phone", phone, FRAME, 844),
        Shot("docs", site / "index.html", 1100, 700),
    ]


def take(shot: Shot, folder: Path, *, browser: str) -> Path:
    """Take a picture, and return its file.

    Args:
        shot: What to take.
        folder: Where the file goes.
        browser: The program.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{shot.name}.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    size, file = f"--window-size={shot.width},{shot.height}", f"--screenshot={path.resolve()}"
    command = [browser, *flags, size, file, shot.page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    with Image.open(path) as picture:
        width = PHONE if shot.width == FRAME else picture.width
        small = picture.convert("RGB").crop((0, 0, width, picture.height)).quantize(64, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    return path


def main(argv: list[str] | None = None) -> int:
    """Take all pictures and print their sizes; return 1 if they are too large together, 2 if something is missing."""
    parser = argparse.ArgumentParser(prog="python -m examples.pictures", description="Make the documents' pictures.")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("site", type=Path, help="folder of the built documentation site")
    parser.add_argument("--output", type=Path, required=True, help="folder for the pictures")
    options = parser.parse_args(argv)
    try:
        browser = next(filter(None, map(shutil.which, BROWSERS)), None)
        if browser is None:
            raise ConfigError("There is no Chromium here", seen=f"looked for {', '.join(BROWSERS)}", do="Install it.")
        with tempfile.TemporaryDirectory() as scratch:
            taken = [
                take(shot, options.output, browser=browser) for shot in shots(options.run, options.site, Path(scratch))
            ]
    except GuardError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for path in taken:
        sys.stdout.write(f"{path}: {path.stat().st_size:,} bytes\n")
    return int(sum(path.stat().st_size for path in taken) > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
