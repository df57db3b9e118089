"""One callback on the stream of events: what it hears, what happens when it fails, and three examples of it."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from guard_plugins import configure, run
from guard_plugins.errors import ConfigError
from guard_plugins.runtime import tensorboard as board
from guard_plugins.runtime.monitor import Callback, Monitor

EXAMPLES = Path(__file__).parents[2] / "examples" / "callbacks"
TINY: dict[str, Any] = {
    "ipc": 1,
    "device": "cpu",
    "data": {"train_per_class": 20},
    "teacher": {"epochs": 1},
    "student": {"epochs": 1},
    "evaluation": {"images": 10, "protocol": "fgsm", "eps": [8]},
}


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hear(callback: Callback, folder: Path) -> None:
    monitor = Monitor(folder / "events.jsonl", quiet=True, callbacks=[callback])
    with monitor.stage("distill"):
        monitor.step("recover", 3, {"loss": 0.5})


def test_a_callback_hears_events_and_steps_and_the_file_holds_the_events(tmp_path: Path) -> None:
    heard: list[Mapping[str, Any]] = []
    hear(heard.append, tmp_path)
    assert [event["event"] for event in heard] == ["stage begins", "step", "stage ends"]
    assert (heard[1]["loop"], heard[1]["step"], heard[1]["numbers"]) == ("recover", 3, {"loss": 0.5})
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert lines == [heard[0], heard[2]]


def test_one_that_fails_is_said_once_and_the_others_go_on(tmp_path: Path) -> None:
    heard: list[Any] = []

    def failing(event: Mapping[str, Any]) -> None:
        raise OSError("no network")

    monitor = Monitor(tmp_path / "events.jsonl", quiet=True, callbacks=[failing, heard.append])
    monitor.event("a")
    monitor.event("b")
    said = [event["text"] for event in heard if event["event"] == "message"]
    assert said == ["warning: a callback failed and is not called again: OSError: no network"]
    assert [event["event"] for event in heard if event["event"] != "message"] == ["a", "b"]


def test_csv_and_wandb_are_small_examples_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hear(example("csv_log").csv_log(tmp_path / "numbers.csv"), tmp_path)
    with (tmp_path / "numbers.csv").open() as file:
        assert list(csv.reader(file)) == [["loop", "step", "name", "value"], ["recover", "3", "loss", "0.5"]]
    logged: list[Any] = []
    fake: Any = types.ModuleType("wandb")
    fake.init = lambda project, config: types.SimpleNamespace(log=logged.append)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    hear(example("wandb_log").wandb_log("guard", configure("noise")), tmp_path)
    assert logged == [{"recover/loss": 0.5}]


def test_tensorboard_gets_a_curve_per_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    fake: Any = types.ModuleType("torch.utils.tensorboard")
    writer = types.SimpleNamespace(add_scalar=lambda *point: written.append(point), flush=lambda: None)
    fake.SummaryWriter = lambda folder: written.append(folder) or writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    hear(board.tensorboard(tmp_path / "tensorboard"), tmp_path)
    assert written[:2] == [str(tmp_path / "tensorboard"), ("recover/loss", 0.5, 3)]
    assert written[2][0] == "seconds/distill"


def test_without_the_package_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="--log tensorboard needs the package tensorboard") as caught:
        run(configure("noise", output=tmp_path / "run", log="tensorboard", **TINY))
    assert "pip install tensorboard" in caught.value.do
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_calls_it_and_its_numbers_do_not_change(tmp_path: Path) -> None:
    heard: list[Mapping[str, Any]] = []
    run(configure("noise", output=tmp_path / "heard", **TINY), callback=heard.append)
    run(configure("noise", output=tmp_path / "plain", **TINY))
    assert {event["loop"] for event in heard if event["event"] == "step"} >= {"teacher"}
    files = [(tmp_path / name / "teacher.safetensors").read_bytes() for name in ("heard", "plain")]
    assert files[0] == files[1]
