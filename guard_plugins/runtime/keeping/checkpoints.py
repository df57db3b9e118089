"""The states of a run's loops on disk, so that a killed run goes on where it was."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from guard_plugins.artifacts.atomic import made
from guard_plugins.artifacts.report import Saves
from guard_plugins.artifacts.tree import load_outline, load_tree, save_tree
from guard_plugins.errors import DamagedError, PluginError


class Checkpoints:
    """One file per loop, saved at a cadence of time and once at the loop's end.

    Attributes:
        count: Number of saves by this process.
        seconds: Time they took, from taking the state to the file on disk.
        known: Fingerprints of what the stages so far depend on.

    Args:
        folder: Where the files go; made when the first is saved. None saves nothing.
        every: Seconds between two saves of a running loop.
    """

    def __init__(self, folder: Path | None, *, every: float) -> None:
        self.folder, self.every, self.count, self.seconds, self.known = folder, every, 0, 0.0, [""]
        self._last, self._item, self._keeps = time.monotonic(), "", False
        self._begun: set[tuple[str, str, str]] = set()

    def begin(self, loop: str, call: str = "steps") -> None:
        """Note that a loop begins, or items of that name.

        Args:
            loop: Its name.
            call: The function of a task that was called for it.

        Raises:
            PluginError: If one of that name began before: it would find the state of that one, and pass over its steps.
        """
        if self.folder is None or self.is_item(loop):
            return
        if (self.inputs, call, loop) in self._begun:
            raise PluginError(
                f"task.{call} was called twice for {loop!r}, and the second time takes what the first one did for done",
                do=f'Give each its own name, the same when resumed: task.{call}(f"{loop}/{{number}}", ...).',
            )
        self._begun.add((self.inputs, call, loop))

    def peek(self, loop: str) -> int | None:
        """Return the steps done of a loop, or None where nothing was saved, or from other inputs; reads no tensors.

        Raises:
            DamagedError: If the file is damaged.
        """
        if self.folder is None or not os.path.lexists(self._path(self.folder, loop)):
            return None
        path = self._path(self.folder, loop)
        saved = load_outline(path)
        if not _is_state(saved):
            raise _unusable(path, _NO_STATE)
        return int(saved["done"]) if saved["inputs"] == self.inputs else None

    def free(self, loop: str) -> None:
        """Let a loop of this name begin again."""
        self._begun.difference_update([begun for begun in self._begun if begun[-1] == loop])

    def drop(self, loop: str) -> None:
        """Remove what was saved of a loop, whose name is free again."""
        self.free(loop)
        if self.folder is not None:
            self._path(self.folder, loop).unlink(missing_ok=True)

    def claim(self, item: str) -> Path:
        """Return the file that says who is at work on an item."""
        return self._path(self.folder or Path(), item).with_suffix(".claim")

    @contextlib.contextmanager
    def making(self, item: str, *, end: bool = False) -> Iterator[None]:
        """Make an item, whose loop has the same name, while the context is open.

        Args:
            item: Name of the item.
            end: Whether the last state of its loop is saved; if not, the item itself is saved then.
        """
        self._item, self._keeps = item, end
        try:
            yield
        finally:
            self._item = ""

    def needs_end(self, loop: str) -> bool:
        """Return whether the last state of a loop is to be saved."""
        return self._keeps or not self.is_item(loop)

    def is_item(self, loop: str) -> bool:
        """Return whether a loop makes an item of its stage."""
        return loop == self._item

    @property
    def inputs(self) -> str:
        """Fingerprint of what the running stage depends on; a state saved under another one is not used."""
        return self.known[-1]

    @inputs.setter
    def inputs(self, fingerprint: str) -> None:
        self.known.append(fingerprint)

    def under(self, fingerprint: str) -> Checkpoints:
        """Return the same folder for states that depend on something else than the running stage does."""
        other = copy.copy(self)
        other.known = [*self.known, fingerprint]
        return other

    def load(self, loop: str) -> tuple[int, dict[str, Any]] | None:
        """Return (steps done, state) of a loop, or None where nothing was saved, or from other inputs.

        Raises:
            DamagedError: If the file is damaged.
        """
        if self.folder is None or not os.path.lexists(self._path(self.folder, loop)):
            return None
        saved = read_state(self._path(self.folder, loop))
        return (saved["done"], saved["state"]) if saved["inputs"] == self.inputs else None

    def unusable(self, loop: str, seen: str) -> DamagedError:
        """Return the error for a saved state that does not fit its loop.

        Args:
            loop: Name of the loop.
            seen: What is wrong with it.
        """
        return _unusable(self._path(self.folder or Path(), loop), seen)

    @property
    def due(self) -> bool:
        """Whether the cadence asks for a save."""
        return self.folder is not None and time.monotonic() - self._last >= self.every

    def save(self, loop: str, done: int, state: Callable[[], dict[str, Any]]) -> None:
        """Save what ``state`` returns, a loop's state after ``done`` steps.

        Raises:
            ArtifactError: If the file cannot be written.
        """
        if self.folder is None:
            return
        start = time.monotonic()
        save_tree(self._path(made(self.folder), loop), {"done": done, "inputs": self.inputs, "state": state()})
        self._last = time.monotonic()
        self.seconds += self._last - start
        self.count += 1

    def cost(self, stages: Mapping[str, float]) -> Saves:
        """Return what saving cost this process, whose ``stages`` took so many seconds."""
        whole = sum(stages.values())
        share = self.seconds / whole if whole else 0.0
        return Saves(count=self.count, seconds=round(self.seconds, 3), share=round(share, 6))

    def forget(self) -> None:
        """Remove everything saved."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _path(folder: Path, loop: str) -> Path:
        digest = hashlib.blake2b(loop.encode(), digest_size=4).hexdigest()
        return folder / f"{_slug(loop)}-{digest}.safetensors"


def read_state(path: Path) -> dict[str, Any]:
    """Return what is saved of a loop: ``done`` (steps), ``inputs`` (fingerprint) and ``state``.

    Raises:
        DamagedError: If the file is damaged, or holds anything else.
    """
    saved = load_tree(path)
    if not _is_state(saved):
        raise _unusable(path, _NO_STATE)
    return dict(saved)


_NO_STATE: Final = "it does not hold a number of steps and the state after them"


def _unusable(path: Path, seen: str) -> DamagedError:
    return DamagedError(
        f"{path} is damaged, or does not fit this run", seen=seen,
        do="Delete it: the work since the last finished stage is then done again.",
    )  # fmt: skip


def _is_state(saved: Any) -> bool:
    if not isinstance(saved, dict) or saved.keys() != {"done", "inputs", "state"}:
        return False
    done = saved["done"]
    numbered = isinstance(done, int) and not isinstance(done, bool) and done >= 0
    return numbered and isinstance(saved["inputs"], str) and isinstance(saved["state"], dict)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)
