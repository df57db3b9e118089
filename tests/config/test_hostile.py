"""Whatever a configuration file holds, it is a configuration or a ConfigError that names what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard_plugins.cli.arguments import parse
from guard_plugins.config import RunConfig
from guard_plugins.errors import ConfigError

SECTIONS = ("guard", "data", "teacher", "student", "evaluation", "recover")
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
names = st.sampled_from([*RunConfig.model_fields, *SECTIONS]) | st.text(min_size=1, max_size=8)
fields = st.sampled_from(["h", "h_rms", "weight", "epochs", "lr", "network", "iterations", "path"]) | st.text(
    max_size=6
)
files = st.dictionaries(names, values | st.dictionaries(fields, values, max_size=3), max_size=5)


def check(folder: Path, content: dict[str, Any]) -> None:
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump({**content, "method": "sre2l"}))
    outcome = parsed(["--config", str(file)])
    named = outcome.startswith(("--", "Unknown key", "The configuration")) or "(--" in outcome
    assert outcome == "sre2l" or named, outcome


def parsed(arguments: list[str]) -> str:
    """Return the method of the configuration, or what the error says; anything else escapes."""
    try:
        return parse(arguments).config.method
    except ConfigError as error:
        return error.what


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=files)
def test_any_mapping_is_a_configuration_or_explained(tmp_path: Path, content: dict[str, Any]) -> None:
    check(tmp_path, content)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=files)
def test_any_of_a_thousand_mappings_is_a_configuration_or_explained(tmp_path: Path, content: dict[str, Any]) -> None:
    check(tmp_path, content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
def test_any_bytes_are_a_configuration_or_explained(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    assert parsed(["--method", "noise", "--config", str(file)])


@settings(max_examples=60, deadline=None)
@given(
    arguments=st.lists(st.text(max_size=10) | st.sampled_from(["--ipc", "--guard.h", "--teacher", "-1"]), max_size=4)
)
def test_any_arguments_are_a_configuration_or_explained(arguments: list[str]) -> None:
    assert parsed(["--method", "noise", *(a for a in arguments if a not in ("-h", "--help"))])
