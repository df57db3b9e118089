"""Plugins loaded by several threads at a time: the process is afterwards as it was, and nobody is blamed."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from guard_plugins.host import PluginHost
from guard_plugins.host.loading import fenced
from tests.host.test_isolation import GOOD

Install = Callable[..., None]


def test_what_is_put_back_is_what_was_there_before_all_threads() -> None:
    before = (sys.stdout, os._exit, os.fork, atexit.register)
    entered, changes = threading.Event(), [[], []]  # type: list[list[str]]

    def first() -> None:
        with fenced(changes[0]):
            entered.set()
            later.start()
            later.join(0.5)  # it waits outside

    def second() -> None:
        entered.wait()
        with fenced(changes[1]):
            pass

    later = threading.Thread(target=second, name="later")
    other = threading.Thread(target=first)
    other.start()
    other.join()
    later.join()
    assert (sys.stdout, os._exit, os.fork, atexit.register) == before
    assert changes == [["left a thread running (later)"], []]


def test_a_plugin_that_asks_for_plugins_itself_does_not_wait_for_itself(install: Install) -> None:
    install("toy", f"from guard_plugins import configure\nconfigure('random')\n{GOOD.format(name='toy')}")
    assert PluginHost(only=["toy"]).method("toy").name == "toy"


def test_threads_of_a_pool_load_plugins(capfd: pytest.CaptureFixture[str]) -> None:
    before = (sys.stdout, os._exit, os.fork, atexit.register)
    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(lambda _: PluginHost(only=["sre2l"]).method("sre2l").name, range(4)))
    assert names == ["sre2l"] * 4
    assert (sys.stdout, os._exit, os.fork, atexit.register) == before
    assert "changed" not in capfd.readouterr().err
