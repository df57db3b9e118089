"""Configurations go to the processes of a pool."""

from __future__ import annotations

import multiprocessing
import pickle

import pytest

from guard_plugins import configure
from guard_plugins.config import RunConfig


@pytest.mark.parametrize("method", ["sre2l", "cda", "dc", "random"])
def test_a_configuration_is_the_same_after_pickling(method: str) -> None:
    config = configure(method, ipc=3, student={"epochs": 7})
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert again.model_dump() == config.model_dump()
    assert again.model_fields_set == config.model_fields_set


def test_another_process_takes_it() -> None:
    config = configure("sre2l", ipc=3, recover={"iterations": 5})
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_steps, [config]) == [(3, 5)]


def _steps(config: RunConfig) -> tuple[int, int]:
    return config.ipc, config.recover.iterations  # type: ignore[attr-defined]
