"""docs/writing-plugins.md is complete and true: its snippets are the scaffold's, its lists are the code's."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import guard_plugins
from guard_plugins import DistilledSet, LoopState, Method, Task, TeacherSpec, hookspecs
from guard_plugins.data.classwise import Classwise
from guard_plugins.host import PluginHost
from guard_plugins.host.validation import BASES
from guard_plugins.scaffold.write import rendered, write_file
from guard_plugins.testing import PROMISES, check_method
from guard_plugins.training.recipes import recipe_of

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "writing-plugins.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def public_modules() -> set[str]:
    """Return the modules the document promises to keep."""
    section = TEXT[TEXT.index("## What stays") :]
    listed = [
        name for line in section.splitlines() if line.startswith("- ") for name in re.findall(r"`([\w.]+)`", line)
    ]
    return {"guard_plugins", *listed}


WHOLE = ("Matched", "Smoothed", "Committee")


def examples() -> list[str]:
    """Return the snippets that are whole methods of their own."""
    return [text for text in blocks("python") if text.startswith(tuple(f"class {name}(" for name in WHOLE))]


@pytest.mark.parametrize("snippet", examples(), ids=lambda text: text.split("(")[0])
def test_every_whole_method_passes_the_contract(snippet: str) -> None:
    known = {"Method": Method, "DistilledSet": DistilledSet, "TeacherSpec": TeacherSpec, "torch": torch}
    more = {"recipe_of": recipe_of, "Classwise": Classwise, "F": F, "LoopState": LoopState}
    scope: dict[str, object] = {**known, **more, "__name__": __name__}
    exec(snippet, scope)
    (method,) = [value for name, value in scope.items() if name in WHOLE]
    check_method(method, instant=True)  # type: ignore[arg-type]


PARTS = ROOT / "examples" / "guard-parts" / "src" / "guard_parts"
AUGMENTATION = [text for text in blocks("python") if text.startswith("class Light(")]
SCAFFOLD = [text for text in blocks("python") if text not in [*examples(), *AUGMENTATION]]


def test_the_augmentation_is_that_of_the_example() -> None:
    (snippet,) = AUGMENTATION
    assert snippet in (PARTS / "light.py").read_text()


@pytest.mark.parametrize("snippet", SCAFFOLD + blocks("toml"), ids=lambda text: text.strip().splitlines()[0])
def test_every_snippet_is_cut_from_what_the_scaffold_writes(snippet: str, tmp_path: Path) -> None:
    texts = [*rendered("mine").values(), write_file("mine", tmp_path).read_text()]
    assert any(snippet in text for text in texts)


def test_there_are_snippets_of_every_part() -> None:
    assert len(examples()) == len(WHOLE)
    assert (len(SCAFFOLD), len(blocks("toml")), len(blocks("sh"))) == (5, 1, 2)


def test_the_path_of_one_file_is_the_scaffolds() -> None:
    commands = [shlex.split(line) for line in blocks("sh")[0].splitlines()]
    assert commands[0] == ["guard-plugins", "new", "mine", "--file"]
    assert all(command[:5] == ["guard-run", "--plugin", "mine.py", "--method", "mine"] for command in commands[1:])


def test_the_authors_path_is_that_of_the_new_readme_and_runs_in_ci() -> None:
    commands = [shlex.split(line) for line in blocks("sh")[1].splitlines()]
    assert commands[0] == ["guard-plugins", "new", "mine"]
    readme = rendered("mine")["README.md"]
    for command in commands[2:-1]:
        assert f"    {shlex.join(command)}\n" in readme
    assert r'r"```sh\n(guard-plugins new .*?)```"' in (ROOT / ".ci" / "plugins").read_text()
    assert "\n.ci/plugins\n" in (ROOT / ".ci" / "run").read_text()


def test_every_hook_and_its_arguments_are_documented() -> None:
    hooks = {
        name: function
        for name, function in inspect.getmembers(hookspecs, inspect.isfunction)
        if hasattr(function, f"{hookspecs.PROJECT}_spec")
    }
    assert set(hooks) == {f"register_{kind}" for kind in BASES}
    for name, function in hooks.items():
        (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{name}(")]
        assert f"`{name}({', '.join(inspect.signature(function).parameters)})`" in row
        module, base = BASES[name.removeprefix("register_")]
        known = {f"`{module}.{base}`", f"`guard_plugins.{base}`"}
        assert any(text in row for text in known)


def test_every_promise_is_listed_in_the_words_of_the_contract() -> None:
    section = TEXT[TEXT.index("### What the host expects") : TEXT.index("### Where the hook goes")]
    assert re.findall(r"- \*\*(\w+)\*\*: (.*)", section) == list(PROMISES.items())


def test_the_public_modules_exist_and_have_public_names() -> None:
    for name in public_modules():
        module = importlib.import_module(name)
        assert [item for item in vars(module) if not item.startswith("_")]
    assert len(public_modules()) <= 16


def test_every_export_can_be_imported() -> None:
    for name in guard_plugins.__all__:
        assert getattr(guard_plugins, name) is not None


def test_what_the_host_gives_is_there() -> None:
    members = {*dir(Task), *Task.__dataclass_fields__}
    given = set(re.findall(r"`task\.(\w+)", TEXT))
    assert given <= members
    assert {"ipc", "classes", "data", "network", "steps", "seeds", "device", "config", "monitor"} <= given


def test_every_attribute_of_a_method_is_mentioned() -> None:
    for name in [*Method.__annotations__, "check", "distill", "idle", "train_teacher"]:
        assert f"`{name}" in TEXT or f"{name}:" in TEXT, name


def test_the_environment_variables_and_the_api_version_are_the_codes() -> None:
    source = inspect.getsource(inspect.getmodule(PluginHost)) + inspect.getsource(  # type: ignore[arg-type]
        importlib.import_module("guard_plugins.host.discovery")
    )
    for name in re.findall(r"GUARD_\w+PLUGINS|GUARD_PLUGINS|GUARD_PLUGIN_FILES", TEXT):
        assert name in source
    assert f"guard_api = {hookspecs.API_VERSION}" in TEXT
