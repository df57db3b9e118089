"""A run in a program that has set PyTorch to something else, that does two at once, or that names things otherwise."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from guard_plugins import Run, configure, evaluate, load_data, run
from guard_plugins.errors import ConfigError

SETTINGS: dict[str, Any] = {
    "ipc": 1, "teacher": {"epochs": 1}, "student": {"epochs": 1}, "keep_students": True,
    "evaluation": {"protocol": "fgsm", "images": 20, "gate": "off"},
}  # fmt: skip


@contextlib.contextmanager
def _dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "double": lambda: _dtype(torch.float64),
    "bfloat16": lambda: _dtype(torch.bfloat16),
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "another device": lambda: torch.device("meta"),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run("random", **SETTINGS, output=tmp_path_factory.mktemp("around") / "run")


def _state() -> tuple[object, ...]:
    return (
        torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.get_rng_state().tolist(),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("around", SURROUNDINGS)
def test_what_the_program_around_a_run_has_set_changes_no_number_and_is_left(
    around: str, done: Run, tmp_path: Path
) -> None:
    with SURROUNDINGS[around]():
        before = _state()
        other = run("random", **SETTINGS, output=tmp_path / "run")
        assert _state() == before
        model = other.student()
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert other.models == done.models
    assert torch.equal(other.images, done.images)
    images = load_data("digits").test.images(torch.arange(5))
    assert torch.equal(model(images), done.student()(images))


@pytest.mark.parametrize("around", SURROUNDINGS)
def test_it_changes_no_number_of_an_evaluation_either(around: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    plain = evaluate(model, "digits", protocol="fgsm", images=20)
    with SURROUNDINGS[around]():
        found = evaluate(model, "digits", protocol="fgsm", images=20)
    assert (found.model, found.gate) == (plain.model, plain.gate)


def test_two_threads_do_not_draw_from_the_same_streams(tmp_path: Path) -> None:
    entered, leave, said = threading.Event(), threading.Event(), []

    class Waiting(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            entered.set()
            leave.wait(20)
            return images.flatten(1)[:, :10]

    def work() -> None:
        said.append(evaluate(Waiting(), "digits", protocol="fgsm", images=10).subject)

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait(20)
    try:
        with pytest.raises(ConfigError, match="Another thread of this process is at work") as caught:
            run("random", **SETTINGS, output=tmp_path / "run")
    finally:
        leave.set()
        thread.join()
    assert "process of its own" in caught.value.do
    assert said == ["Waiting"]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_is_found_after_the_program_has_entered_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run("random", **SETTINGS, output="run")
    monkeypatch.chdir(os.sep)
    assert found.folder == tmp_path / "run"
    assert len(found.images) == 10
    assert found.teacher() is not None
    (tmp_path / "run/teacher.safetensors").unlink()
    with pytest.raises(ConfigError, match="has no teacher") as caught:
        found.teacher()
    assert "moved or deleted" in caught.value.do


@pytest.mark.parametrize(
    ("given", "settings", "said"),
    [
        ({"method": "random", "ipc": 1}, {"ipc": 2}, "given twice: ipc"),
        ({"metod": "random"}, {}, "needs a method"),
        ({}, {"ipc": 1}, "needs a method"),
        (None, {}, "needs a method"),
        (["random"], {}, "needs a method"),
        ("randon", {}, "Unknown method 'randon'"),
    ],
)
def test_what_is_no_configuration_is_said(given: Any, settings: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run(given, **settings)


def test_settings_beside_a_whole_configuration_are_not_passed_over() -> None:
    with pytest.raises(ConfigError, match="takes no further settings"):
        run(configure("random", ipc=1), ipc=2)
