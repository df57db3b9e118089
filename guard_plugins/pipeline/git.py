"""The commit of a folder's repository, read without running anything that the repository names.

``git status`` runs programs named in ``.git/config``: ``core.fsmonitor``, the clean and process filters, those of
submodules. A working folder may be foreign, so it is only asked for where that file holds nothing but harmless keys.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

HARMLESS: Final = re.compile(
    r"core\.(repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode|symlinks|autocrlf|eol)"
    r"|(remote|branch|submodule)\..*\.(url|pushurl|fetch|remote|merge|rebase|active|gh-resolved|vscode-merge-base)"
    r"|user\.(name|email)|pull\.(rebase|ff)|push\.default|init\.defaultbranch|extensions\.objectformat"
    r"|lfs\.repositoryformatversion|color\.ui",
    re.DOTALL,
)
"""Keys of a repository's own configuration that name no program and no further file."""

SAFE: Final = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "--no-optional-locks", "--no-pager")


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit of a folder's repository and whether its files are as committed, or None outside of one.

    ``clean`` is None where the repository's configuration might name programs, so that git was not asked.

    Args:
        folder: A folder in the working tree.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        keys = _git(folder, "config", "--local", "--name-only", "--null", "--list").split("\0")
        harmless = all(HARMLESS.fullmatch(key.lower()) for key in keys if key.strip())
        clean = not _git(folder, "status", "--porcelain", "--ignore-submodules=all") if harmless else None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "clean": clean}


def _git(folder: Path, *arguments: str) -> str:
    """Run git; of the three commands here, only ``status`` runs programs that a configuration names."""
    result = subprocess.run(
        ["git", *SAFE, *arguments], cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=True,
        timeout=10, stdin=subprocess.DEVNULL, env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"},
    )  # fmt: skip
    return result.stdout.strip()
