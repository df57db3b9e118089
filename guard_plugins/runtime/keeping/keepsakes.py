"""What a method keeps besides its set: files in folders of its own, and numbers for the report."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from guard_plugins.artifacts.atomic import made, write_text
from guard_plugins.artifacts.reading import read_json
from guard_plugins.artifacts.tree import load_tree, save_tree
from guard_plugins.errors import ConfigError, DamagedError, TrainingError
from guard_plugins.runtime.keeping.checkpoints import Checkpoints

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
INDEX: Final = "index.json"
"""The names in a folder, each with the fingerprint of what the stage that saved it depended on."""


class MethodFolder:
    """A folder of a method's own: ``folder.save("expert-0", {...})``, and in a resumed run ``"expert-0" in folder``.

    What is saved is a nest of dicts, lists, tensors, numbers, strings and None. A file is whole or not there, and has a
    hash. It counts as long as the run's settings and code are those it was saved under.

    Args:
        path: The folder; None keeps everything in memory.
        checkpoints: Knows what the running stage, and those before it, depend on.
    """

    def __init__(self, path: Path | None, checkpoints: Checkpoints) -> None:
        self._path, self._checkpoints = path, checkpoints
        self._memory: dict[str, Any] = {}
        self._index: dict[str, str] = {}
        if path is not None and (path / INDEX).exists():
            index = read_json(path / INDEX, do=f"Delete the folder {path}: what was in it is then made again.")
            if not isinstance(index, dict) or not all(isinstance(value, str) for value in index.values()):
                raise DamagedError(f"{path / INDEX} is damaged", do=f"Delete the folder {path}.")
            self._index = index

    def __contains__(self, name: object) -> bool:
        """Return whether something of that name was saved under these settings, in this process or before."""
        return isinstance(name, str) and name in set(self)

    def __iter__(self) -> Iterator[str]:
        """Yield the names, sorted."""
        known = [name for name, inputs in self._index.items() if inputs in self._checkpoints.known]
        return iter(sorted(name for name in known if self._path is None or self._file(name).is_file()))

    def save(self, name: str, content: Any) -> None:
        """Save something under a name, in place of what was there.

        Args:
            name: Letters, digits, dots, hyphens and underscores.
            content: Tensors are saved as they are on the CPU.

        Raises:
            ConfigError: If the name cannot be that of a file.
            ArtifactError: If it cannot be written.
            TypeError: If the content holds anything else.
        """
        _require_name(name)
        if self._path is None:
            self._memory[name] = _on_cpu(content)
        else:
            save_tree(self._file(name), _on_cpu(content))
        self._index[name] = self._checkpoints.inputs
        if self._path is not None:
            write_text(self._path / INDEX, json.dumps(self._index, indent=0, sort_keys=True))

    def load(self, name: str) -> Any:
        """Return what was saved, its tensors on the CPU; tuples come back as lists.

        Raises:
            KeyError: If nothing of that name was saved.
            DamagedError: If the file is damaged.
        """
        if name not in self:
            raise KeyError(name)
        return _on_cpu(self._memory[name]) if self._path is None else load_tree(self._file(name))

    def files(self) -> list[Path]:
        """Return the files that the running stage saved."""
        if self._path is None:
            return []
        return [self._file(name) for name, inputs in self._index.items() if inputs == self._checkpoints.inputs]

    def _file(self, name: str) -> Path:
        return made(self._path or Path()) / f"{name}.safetensors"


class Keepsakes:
    """The folders and numbers of one method's run.

    Args:
        path: Where the folders go; None keeps everything in memory.
        checkpoints: Knows what the stages depend on.
    """

    def __init__(self, path: Path | None, checkpoints: Checkpoints) -> None:
        self._path, self._checkpoints = path, checkpoints
        self._folders: dict[str, MethodFolder] = {}
        self.numbers: dict[str, float] = {}

    def folder(self, name: str) -> MethodFolder:
        """Return the folder called ``name``.

        Raises:
            ConfigError: If the name cannot be that of a folder.
            DamagedError: If what an earlier process left there is damaged.
        """
        _require_name(name)
        if name not in self._folders:
            self._folders[name] = MethodFolder(None if self._path is None else self._path / name, self._checkpoints)
        return self._folders[name]

    def report(self, numbers: Mapping[str, Any]) -> None:
        """Keep numbers for the report; the last of a name counts.

        Raises:
            TrainingError: If one is not finite.
        """
        for name, value in numbers.items():
            number = float(torch.as_tensor(value).detach())
            if not math.isfinite(number):
                raise TrainingError(f"The method reported {name} = {number}", do="Report finite numbers.")
            self.numbers[name] = number

    def files(self) -> list[Path]:
        """Return the files that the running stage saved, by this process or before."""
        names = [] if self._path is None or not self._path.is_dir() else [path.name for path in self._path.iterdir()]
        return [path for name in sorted(names) if NAME.fullmatch(name) for path in self.folder(name).files()]

    def state_dict(self) -> dict[str, float]:
        """Return the numbers, which are saved with the loop that reports them."""
        return dict(self.numbers)

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over the numbers of an earlier process."""
        self.numbers = {**self.numbers, **state}


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name) or name == INDEX:
        raise ConfigError(
            f"{name!r} cannot be the name of a method's file or folder",
            do="Use letters, digits, dots, hyphens and underscores, at most 100.",
        )


def _on_cpu(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.detach().cpu().clone()
    if isinstance(tree, Mapping):
        return {key: _on_cpu(value) for key, value in tree.items()}
    return [_on_cpu(value) for value in tree] if isinstance(tree, (list, tuple)) else tree
