"""A plugin that is one file, or one class: no packaging, no entry point, no hooks."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from guard_plugins.errors import ConfigError, PluginError
from guard_plugins.files import regular
from guard_plugins.hookspecs import PROJECT, hookimpl
from guard_plugins.host.discovery import Entry
from guard_plugins.host.registry import HASHED
from guard_plugins.host.validation import BASES

if TYPE_CHECKING:
    from guard_plugins.method import Method

FILES: Final = "GUARD_PLUGIN_FILES"
"""Variable with the paths of files that are plugins, separated as in PATH."""


@dataclass(frozen=True)
class PluginFile:
    """A file of Python code that is a plugin.

    Attributes:
        path: The file.
        digest: SHA-256 of its content.
    """

    path: Path
    digest: str

    def load(self) -> Any:
        """Return the module if it has hooks, otherwise a plugin that brings the classes defined in it.

        Raises:
            PluginError: If it has neither.
        """
        return plugin_of(self._module())

    def _module(self) -> ModuleType:
        # One content is one module, so that its classes are the same ones wherever in the process they are asked for.
        name = f"guard_plugin_file_{self.path.stem}_{self.digest[:16]}"
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, self.path)
        if spec is None or spec.loader is None:
            raise PluginError(f"{self.path.name} is no file of Python code", do="Give a file that ends in .py.")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


@dataclass(frozen=True)
class GivenClass:
    """A method's class, given as it is.

    Attributes:
        value: The class.
    """

    value: type[Method]

    def load(self) -> Any:
        """Return a plugin that brings the class."""
        return _bringing({"methods": [self.value]})


def file_entries(paths: Iterable[Path]) -> list[Entry]:
    """Return a plugin for every file, once each.

    Raises:
        ConfigError: If one cannot be read.
    """
    files = [PluginFile(path, _digest(path)) for path in dict.fromkeys(path.resolve() for path in paths)]
    return [Entry(file.path.name, file.path.name, _version(file.digest), "enabled", file) for file in files]


def class_entry(value: type[Method]) -> Entry:
    """Return the plugin that a class is, known by the hash of its file or, without one, of its text."""
    path = source_file(value)
    try:
        digest = _digest(path) if path else _sha256(inspect.getsource(value).encode())
    except (OSError, TypeError, ConfigError):
        digest = "unknown"  # typed in at a prompt
    where = path.name if path else "this session"
    return Entry(value.name, where.replace(" ", "-"), _version(digest), "enabled", GivenClass(value))


def source_file(value: type[object]) -> Path | None:
    """Return the file that defines a class, None where there is none."""
    try:
        path = Path(inspect.getfile(value)).resolve()
    except (OSError, TypeError):
        return None
    return path if path.is_file() else None


def files_of_environment() -> list[Path]:
    """Return the files that ``GUARD_PLUGIN_FILES`` names."""
    return [Path(name).expanduser() for name in os.environ.get(FILES, "").split(os.pathsep) if name]


def plugin_of(module: ModuleType) -> Any:
    """Return the plugin that a module is: itself where it has hooks, otherwise the classes defined in it.

    Raises:
        PluginError: If it has neither.
    """
    if any(hasattr(value, f"{PROJECT}_impl") for value in vars(module).values()):
        return module
    classes = {kind: _classes(kind, module) for kind in BASES}
    if not any(classes.values()):
        raise PluginError(
            f"{Path(module.__file__ or '').name} defines no method, data set, network, recipe, augmentation or attack",
            do="Write a subclass of guard_plugins.Method with a name in it, for instance.",
        )
    return _bringing(classes, guard_api=getattr(module, "guard_api", None))


def _classes(kind: str, module: ModuleType) -> list[type]:
    base_module, name = BASES[kind]
    if base_module not in sys.modules:
        return []  # so no class here can be derived from it, and it need not be imported
    base = getattr(sys.modules[base_module], name)
    found = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, base)]
    # An abstract class without a name is what the others are derived from.
    own = [value for value in found if value.__module__ == module.__name__]
    return [value for value in own if hasattr(value, "name") or not inspect.isabstract(value)]


def _bringing(classes: Mapping[str, Sequence[type]], guard_api: int | None = None) -> Any:
    """Return a plugin object whose hooks return these classes, by kind."""
    plugin = ModuleType("plugin")
    vars(plugin).update({f"register_{kind}": _hook(values) for kind, values in classes.items() if values})
    vars(plugin)["guard_api"] = guard_api
    return plugin


def _hook(values: Sequence[type]) -> Any:
    def register() -> list[type]:
        return list(values)

    return hookimpl(register)


def _digest(path: Path) -> str:
    try:
        return _sha256(regular(path).read_bytes())
    except OSError as error:
        raise ConfigError(
            f"The plugin file {path} cannot be read (--plugin, or {FILES})", seen=error.strerror or str(error),
            do="Check the path.",
        ) from error  # fmt: skip


def _sha256(content: bytes) -> str:
    import hashlib  # it loads OpenSSL, which a listing does without

    return hashlib.sha256(content).hexdigest()


def version_of(path: Path) -> str:
    """Return what stands for the version of a file.

    Raises:
        ConfigError: If it cannot be read.
    """
    return _version(_digest(path))


def _version(digest: str) -> str:
    return HASHED + digest[:12]
