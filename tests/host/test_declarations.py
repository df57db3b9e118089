"""What a class declares in a form that the host cannot use is refused when it is loaded, with its plugin's name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guard_baselines.noise import Noise
from guard_plugins.errors import PluginError
from guard_plugins.host import PluginHost
from guard_plugins.host.validation import check_class
from tests.host.test_isolation import GOOD

Install = Callable[..., None]

WRONG = {
    "defaults = [1]": "`defaults` of the method 'toy' is no mapping of settings",
    "presets = None": "`presets` of the method 'toy' is no mapping of settings",
    "reads = 'teacher.epochs'": "`reads` of the method 'toy' is the string 'teacher.epochs', not a tuple of names",
    "networks = 'toy.network'": "`networks` of the method 'toy' is the string 'toy.network', not a tuple of names",
    "networks = ('toy.network',)": "names 'toy.network', which is no option of its Config",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_kind_is_named(line: str, install: Install) -> None:
    install("toy", GOOD.format(name="toy").replace('    summary = "a toy"', f'    summary = "a toy"\n    {line}'))
    with pytest.raises(PluginError) as caught:
        PluginHost(only=["toy"]).method("toy")
    assert WRONG[line] in str(caught.value)
    assert "guard-toy 1.0" in str(caught.value)


@pytest.mark.parametrize("name", ["../../toy", "a/b", "", " toy", "-toy", "<b>", "a\\\\b", "toy\\n"])
def test_a_name_that_would_leave_the_folder_of_runs_is_refused(name: str, install: Install) -> None:
    install("toy", GOOD.format(name=name))
    host = PluginHost(only=["toy"])
    assert "cannot be typed or be part of a path" in host.broken["toy"].reason


@pytest.mark.parametrize("name", ["toy", "toy-2", "2toy", "My Toy", "toy_v1.5", "größe"])
def test_other_names_are_the_authors_choice(name: str) -> None:
    check_class("methods", type("Named", (Noise,), {"name": name}))
