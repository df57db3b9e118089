"""One broken plugin never takes another down, and says what is wrong when it is asked for."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable

import pytest

from guard_plugins.cli import plugins
from guard_plugins.errors import ConfigError, PluginError
from guard_plugins.host import PluginHost, catalogue

GOOD = """
from guard_plugins import Method, hookimpl

class Toy(Method):
    name = "{name}"
    summary = "a toy"
    def distill(self, task, teacher):
        raise NotImplementedError

@hookimpl
def register_methods():
    return [Toy]
"""

Install = Callable[..., None]


def test_a_strangers_method_is_found_by_its_entry_point(install: Install) -> None:
    install("toy", GOOD.format(name="toy"), distribution="guard-toy", version="2.5")
    host = PluginHost()
    assert host.method("toy").__name__ == "Toy"
    assert host.methods.registered("toy").origin == "guard-toy 2.5"
    assert not host.broken


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("def (", "SyntaxError"),
        (GOOD.format(name="bad").replace("return [Toy]", "raise RuntimeError('boom')"), "RuntimeError: boom"),
        (GOOD.format(name="bad").replace("register_methods", "register_method"), "unknown hook 'register_method'"),
        (GOOD.format(name="bad").replace("return [Toy]", "return Toy"), "not a list of classes"),
        (GOOD.format(name="bad").replace("return [Toy]", "return [Toy()]"), "TypeError"),
        (GOOD.format(name="bad").replace("return [Toy]", "return [int]"), "not a subclass of guard_plugins.method"),
        (GOOD.format(name="bad").replace("def distill", "def destill"), "does not implement: distill"),
        (GOOD.format(name="other"), "registers no method of that name"),
        (GOOD.format(name="bad").replace('    name = "bad"\n', ""), "has no `name`"),
        (GOOD.format(name="bad") + "\nimport sys; sys.exit(3)", "SystemExit"),
        (
            GOOD.format(name="bad").replace('"a toy"', '"a toy"; uses_teacher = False; guarded = ()'),
            "declares labels = 'soft', but uses_teacher = False: no teacher could give them",
        ),
        (
            GOOD.format(name="bad").replace('"a toy"', '"a toy"; labels = "sotf"'),
            "declares labels = 'sotf', which is none of 'soft', 'hard', 'own', 'mean'",
        ),
    ],
)
def test_a_broken_plugin_is_named_and_the_others_work(install: Install, source: str, reason: str) -> None:
    install("bad", source)
    install("toy", GOOD.format(name="toy"))
    host = PluginHost()
    assert reason in host.broken["bad"].reason
    assert host.method("toy").name == "toy"
    assert host.method("sre2l").name == "sre2l"
    with pytest.raises(PluginError, match=r"The plugin 'bad' of guard-bad 1\.0 is broken") as caught:
        host.method("bad")
    assert "Traceback" in caught.value.seen
    assert "guard-bad" in caught.value.do


def test_a_name_of_a_built_in_data_set_is_refused_and_leaves_no_trace(install: Install) -> None:
    install(
        "toy",
        GOOD.format(name="toy")
        + """
from guard_plugins.data.base import DataSet
class Mine(DataSet):
    name = "digits"
    summary = "clash"
    def load(self, request): ...
@hookimpl
def register_datasets():
    return [Mine]
""",
    )
    host = PluginHost()
    assert "registers the data set 'digits', which guard-plugins" in host.broken["toy"].reason
    assert "toy" not in host.methods
    assert host.datasets["digits"].__module__ == "guard_plugins.data.datasets.digits"


def test_two_distributions_with_one_name_are_both_named_when_it_is_asked_for(install: Install) -> None:
    install("twin", GOOD.format(name="twin"), distribution="guard-a")
    install("twin", GOOD.format(name="twin"), distribution="guard-b")
    assert [entry.status for entry in catalogue() if entry.name == "twin"] == ["clash", "clash"]
    host = PluginHost()
    assert host.method("sre2l")
    with pytest.raises(PluginError, match="Two distributions provide a method called 'twin'") as caught:
        host.method("twin")
    assert caught.value.seen == "guard-a 1.0 and guard-b 1.0"


def test_the_environment_restricts_plugins(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("toy", GOOD.format(name="toy"))
    monkeypatch.setenv("GUARD_PLUGINS", "toy, noise")
    host = PluginHost()
    assert sorted(host.methods) == ["noise", "toy"]
    assert {entry.name for entry in catalogue() if entry.status == "disabled"} >= {"sre2l", "random"}
    with pytest.raises(PluginError, match="'sre2l' is disabled"):
        host.method("sre2l")


def test_strict_mode_raises_what_the_plugin_raised(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("bad", "raise RuntimeError('boom')")
    monkeypatch.setenv("GUARD_STRICT_PLUGINS", "1")
    with pytest.raises(RuntimeError, match="boom"):
        PluginHost()


def test_without_its_entry_point_sre2l_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("guard_plugins.host.discovery")
    points = [point for point in module.entry_points(group="guard_plugins") if point.name != "sre2l"]
    monkeypatch.setattr(module, "entry_points", lambda group: points)
    host = PluginHost()
    assert "sre2l" not in host.methods
    with pytest.raises(ConfigError, match="Unknown method 'sre2l'"):
        host.method("sre2l")


def test_the_built_in_parts_come_through_the_same_hooks() -> None:
    host = PluginHost()
    assert {"digits", "cifar10", "folder"} <= set(host.datasets)
    assert {"resnet18", "convnet3", "small-resnet"} <= set(host.networks)
    assert "pgd" in host.attacks
    assert {"sre2l", "noise", "random"} <= set(host.methods)
    with pytest.raises(ConfigError, match="Unknown data set 'digit'") as caught:
        host.datasets["digit"]
    assert "Did you mean 'digits'?" in caught.value.do


def test_an_unknown_name_says_which_command_lists_its_kind(capsys: pytest.CaptureFixture[str]) -> None:
    host = PluginHost()
    for ask, known in (
        (lambda: host.method("x"), "sre2l"),
        (lambda: host.datasets["x"], "digits"),
        (lambda: host.networks["x"], "convnet3"),
        (lambda: host.attacks["x"], "autoattack"),
    ):
        with pytest.raises(ConfigError) as caught:
            ask()
        listing = re.search("`guard-plugins(.*)` lists them", caught.value.do)
        assert listing
        assert plugins.main(listing[1].split()) == 0
        assert known in capsys.readouterr().out
