"""What a plugin may get wrong about the host: the version of its API, its options, its names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guard_plugins.cli.arguments import parse
from guard_plugins.errors import PluginError
from guard_plugins.hookspecs import API_VERSION
from guard_plugins.host import PluginHost

Install = Callable[..., None]

TOY = """
from guard_plugins import Method, MethodConfig, hookimpl
from pydantic import Field

class Config(MethodConfig):
    {option}: int = Field(3, description="some number")

class Toy(Method):
    name = "{name}"
    summary = "a toy"
    Config = Config
    {body}
    def distill(self, task, teacher):
        raise NotImplementedError

@hookimpl
def register_methods():
    return [Toy]
"""


def toy(name: str = "toy", option: str = "rounds", body: str = "") -> str:
    return TOY.format(name=name, option=option, body=body)


@pytest.mark.parametrize("place", ["plugin", "method"])
def test_the_present_version_of_the_api_is_welcome(install: Install, place: str) -> None:
    line = f"guard_api = {API_VERSION}"
    install("toy", toy() + line if place == "plugin" else toy(body=line))
    assert PluginHost().method("toy").name == "toy"


@pytest.mark.parametrize("place", ["plugin", "method"])
@pytest.mark.parametrize(
    ("declared", "remedy"),
    [(API_VERSION + 1, "Update guard-plugins"), (API_VERSION - 1, "Install a release"), ("'two'", "Install a release")],
)
def test_another_version_of_the_api_is_refused(install: Install, place: str, declared: object, remedy: str) -> None:
    line = f"guard_api = {declared}"
    install("toy", toy() + line if place == "plugin" else toy(body=line), distribution="guard-toy", version="3.1")
    host = PluginHost()
    assert host.method("sre2l").name == "sre2l"
    with pytest.raises(
        PluginError, match=r"The plugin 'toy' of guard-toy 3\.1 is broken: .* declares guard_api"
    ) as caught:
        host.method("toy")
    assert f"offers version {API_VERSION}" in caught.value.what
    assert caught.value.do.startswith(remedy)
    assert "uninstall guard-toy" in caught.value.do


@pytest.mark.parametrize("option", ["ipc", "teacher", "output", "config", "resume", "print_config", "help", "guarded"])
def test_an_option_that_shadows_a_flag_of_guard_run_is_refused_at_loading(install: Install, option: str) -> None:
    install("toy", toy(option=option))
    host = PluginHost()
    assert host.method("noise").name == "noise"
    with pytest.raises(
        PluginError, match=rf"'toy' of guard-toy 1\.0 .* options that guard-run already has: {option}\n"
    ) as caught:
        host.method("toy")
    assert "must rename them" in caught.value.do
    with pytest.raises(PluginError, match="already has"):
        parse(["--method", "toy", "--help"])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("Config = dict", "The Config of Toy is not a subclass of guard_plugins.MethodConfig"),
        ("guarded = 'distill'", "`guarded` of the method 'toy' is the string 'distill', not a tuple"),
        ("guarded = ('train_techer',)", "wants 'train_techer' guarded, but has no such function"),
    ],
)
def test_a_method_that_contradicts_itself_is_refused_at_loading(install: Install, body: str, reason: str) -> None:
    install("toy", toy(body=body))
    host = PluginHost()
    assert reason in host.broken["toy"].reason
    assert host.broken["toy"].remedy


def test_a_strangers_entry_point_with_a_built_in_name_is_named_and_not_used(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("sre2l", toy("sre2l"), distribution="guard-imposter")
    host = PluginHost()
    assert host.method("cda").name == "cda"
    assert host.methods.registered(host.method("sre2l").name).origin.startswith("guard-plugins ")
    assert "warning: guard-imposter 1.0 claims the name 'sre2l', too; it is not used" in capsys.readouterr().err
    monkeypatch.setenv("GUARD_PLUGINS", "sre2l@guard-imposter,*")
    chosen = PluginHost()
    assert chosen.methods.registered(chosen.method("sre2l").name).origin == "guard-imposter 1.0"
    assert chosen.method("cda").name == "cda"


def test_a_method_with_a_built_in_name_behind_another_entry_point_is_refused(install: Install) -> None:
    install("zoo", toy("noise"), distribution="guard-zoo")
    host = PluginHost()
    assert host.methods["noise"].__module__ == "guard_baselines.noise"
    with pytest.raises(
        PluginError, match=r"registers the method 'noise', which guard-plugins .* already provides"
    ) as caught:
        host.method("zoo")
    assert "guard-zoo" in caught.value.do


def test_help_shows_the_options_of_a_strangers_method(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    option = 'style: __import__("typing").Literal["plain", "fancy"] = Field("plain", description="how it looks")'
    install("toy", toy().replace("class Toy", f"    {option}\n\nclass Toy"))
    with pytest.raises(SystemExit):
        parse(["--method", "toy", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--rounds int some number (default: 3)" in text
    assert "--style {plain,fancy} how it looks (default: plain)" in text
