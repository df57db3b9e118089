"""One file is a plugin: found, checked, resumed and told apart by its content, as a distribution is by its version."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from guard_plugins import configure, run
from guard_plugins.cli import plugins
from guard_plugins.cli import run as command
from guard_plugins.errors import ConfigError, PluginError
from guard_plugins.host import PluginHost
from guard_plugins.host.plugin_file import FILES
from guard_plugins.report.comparison import compare
from guard_plugins.report.runs import load_run
from guard_plugins.scaffold import write_file
from guard_plugins.testing import check_method

TOY = """
import torch
from guard_plugins import DistilledSet, Method

class {cls}(Method):
    name = "{name}"
    summary = "grey images"
    guarded, uses_teacher, labels = (), False, "hard"

    def distill(self, task, teacher):
        labels = torch.arange(task.classes).repeat(task.ipc)
        return DistilledSet(torch.full((len(labels), *task.data.image_shape), {grey}), labels)
"""
TINY: dict[str, Any] = {
    "ipc": 1,
    "device": "cpu",
    "data": {"train_per_class": 20},
    "student": {"epochs": 1},
    "evaluation": {"images": 10, "protocol": "fgsm", "eps": [8]},
}
FLAGS = ["--ipc=1", "--device=cpu", "--data.train-per-class=20", "--student.epochs=1", "--evaluation.images=10"]
FLAGS += ["--evaluation.protocol=fgsm", "--evaluation.eps=8"]


def toy(path: Path, *, name: str = "toy", cls: str = "Toy", grey: float = 0.5) -> Path:
    path.write_text(TOY.format(name=name, cls=cls, grey=grey))
    return path


def test_classes_alone_are_a_plugin_and_so_are_hooks(tmp_path: Path) -> None:
    toy(tmp_path / "plain.py")
    hooked = toy(tmp_path / "hooked.py", name="other", cls="Other")
    hooked.write_text(
        hooked.read_text()
        + "from guard_plugins import hookimpl\n@hookimpl\ndef register_methods():\n    return [Other]\n"
    )
    host = PluginHost(only=[], files=[tmp_path / "plain.py", hooked, tmp_path / "plain.py"])
    assert sorted(host.methods) == ["other", "toy"]
    assert host.methods.registered("toy").origin.startswith("plain.py sha256:")


def test_a_file_may_bring_a_data_set_a_network_and_an_attack(tmp_path: Path) -> None:
    path = tmp_path / "parts.py"
    path.write_text(
        "from guard_plugins.data.base import DataSet\nfrom guard_plugins.networks.base import Network\n"
        "class Nine(DataSet):\n    name = 'nine'\n    summary = 'a set'\n    def load(self, request): ...\n"
        "class Flat(Network):\n    name = 'flat'\n    summary = 'a net'\n    def build(self, request): ...\n"
    )
    host = PluginHost(only=[], files=[path])
    assert (host.datasets["nine"].name, host.networks["flat"].name) == ("nine", "flat")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x = 1", "empty.py defines no method, data set, network, recipe, augmentation or attack"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        (TOY.format(name="sre2l", cls="Toy", grey=0), "registers the method 'sre2l', which guard-plugins"),
        (
            TOY.format(name="toy", cls="Toy", grey=0).replace("def distill", "def destill"),
            "does not implement: distill",
        ),
    ],
)
def test_a_file_that_is_no_plugin_says_why(source: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text(source)
    host = PluginHost(only=[], files=[path])
    with pytest.raises(PluginError, match=reason) as caught:
        host.method("toy")
    assert "Correct empty.py" in caught.value.do


def test_a_file_that_is_missing_ends_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--plugin", str(tmp_path / "gone.py"), "--method", "toy"]) == 2
    assert "gone.py cannot be read (--plugin, or GUARD_PLUGIN_FILES)" in capsys.readouterr().err


def test_help_and_configuration_know_its_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_file("mine", tmp_path)
    with pytest.raises(SystemExit):
        command.main(["--plugin", str(path), "--method", "mine", "--help"])
    assert "Adam steps on the images (default: 200)" in " ".join(capsys.readouterr().out.split())
    asked = ["--plugin", str(path), "--method", "mine", "--mine.iterations", "3", "--print-config"]
    assert command.main(asked) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["mine"]["iterations"], printed["plugin"]) == (3, [str(path)])


def test_the_one_method_of_a_file_need_not_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = toy(tmp_path / "mine.py")
    assert command.main(["--plugin", str(path), "--ipc=2", "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["method"] == "toy"
    other = toy(tmp_path / "other.py", name="other", cls="Other")
    assert command.main(["--plugin", str(path), "--plugin", str(other)]) == 2
    assert "No method given" in capsys.readouterr().err
    other.write_text("x =")
    assert command.main(["--plugin", str(other)]) == 1
    assert "The plugin 'other.py' of other.py sha256:" in capsys.readouterr().err


def test_the_environment_names_files_and_the_configuration_keeps_the_one_it_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, idle = toy(tmp_path / "used.py"), toy(tmp_path / "idle.py", name="idle", cls="Idle")
    monkeypatch.setenv(FILES, os.pathsep.join([str(used), str(idle)]))
    assert configure("toy", **TINY).plugin == (used,)
    assert configure("noise", **TINY).plugin == ()
    monkeypatch.delenv(FILES)
    monkeypatch.setenv("GUARD_RUN_PLUGIN", json.dumps([str(used)]))
    assert command.main(["--method", "toy", "--print-config"]) == 0


@pytest.mark.slow
def test_changed_code_redoes_its_stages_and_reports_keep_the_two_apart(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = toy(tmp_path / "mine.py")
    for seed in (0, 1):
        folder = tmp_path / f"run{seed}"
        assert (
            command.main(["--plugin", str(path), "--method=toy", *FLAGS, f"--seed={seed}", f"--output={folder}"]) == 0
        )
    assert len(compare([load_run(tmp_path / "run0"), load_run(tmp_path / "run1")]).entries) == 1
    capfd.readouterr()
    assert command.main(["--resume", str(tmp_path / "run1")]) == 0
    assert "nothing is done again" in capfd.readouterr().err
    before = (tmp_path / "run1" / "distilled.png").read_bytes()
    toy(path, grey=0.25)
    assert command.main(["--resume", str(tmp_path / "run1")]) == 0
    said = capfd.readouterr().err
    assert "distill is done again: the plugin's code changed (mine.py sha256:" in said
    assert "other code of plugins" in said
    assert (tmp_path / "run1" / "distilled.png").read_bytes() != before
    assert len(compare([load_run(tmp_path / "run0"), load_run(tmp_path / "run1")]).entries) == 2
    path.rename(tmp_path / "moved.py")
    assert command.main(["--resume", str(tmp_path / "run1")]) == 2
    said = capfd.readouterr().err
    assert f"The plugin file {path}, which this run was made with, is gone" in said
    assert "--plugin FILE" in said
    assert command.main(["--resume", str(tmp_path / "run0"), "--plugin", str(tmp_path / "moved.py")]) == 0


def test_a_class_is_a_method_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toy(tmp_path / "classy.py")
    monkeypatch.syspath_prepend(tmp_path)
    from classy import Toy  # type: ignore[import-not-found]

    report = run(Toy, **TINY, output=tmp_path / "run")
    assert report.method == "toy"
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["plugin"] == [str(path)]
    used = json.loads((tmp_path / "run" / "manifest.json").read_text())["used"]
    assert used[0]["origin"].startswith("classy.py sha256:")
    assert command.main(["--resume", str(tmp_path / "run")]) == 0  # finds the class in its file
    with pytest.raises(ConfigError, match="Unknown method 'toy'"):
        configure("toy")


def test_a_class_of_an_installed_method_is_that_method() -> None:
    sre2l = PluginHost(only=["sre2l"]).method("sre2l")
    assert configure(sre2l) == configure("sre2l")


def test_the_new_file_keeps_the_contract(tmp_path: Path) -> None:
    method = PluginHost(only=[], files=[write_file("mine", tmp_path)]).method("mine")
    check_method(method, settings={"mine": {"iterations": 4}})


@pytest.mark.slow
def test_the_new_file_runs_without_the_hook(tmp_path: Path) -> None:
    settings = {**TINY, "mine": {"iterations": 3}, "teacher": {"epochs": 1}, "no_guard": True}
    report = run(configure("mine", plugin=[write_file("mine", tmp_path)], output=tmp_path / "run", **settings))
    assert (report.method, report.guard) == ("mine", None)


@pytest.mark.slow
def test_the_new_file_runs_is_killed_and_ends_as_if_never_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plugins.main(["new", "mine", "--file", "--into", str(tmp_path)]) == 0
    base = [sys.executable, "-m", "guard_plugins.cli.run"]
    asked = ["--plugin", str(tmp_path / "mine.py"), "--method=mine", *FLAGS, "--teacher.epochs=1"]
    asked += ["--mine.iterations=60", "--checkpoint-every=1e-9"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert command.main([*asked, f"--output={tmp_path / 'whole'}"]) == 0
    killed = tmp_path / "killed"
    process = subprocess.Popen([*base, *asked, f"--output={killed}"], env=env, stderr=subprocess.DEVNULL)
    begin = time.monotonic()
    while not list((killed / "checkpoints").glob("mine-*")) and time.monotonic() - begin < 60:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "distilled").exists()
    monkeypatch.chdir("/")
    assert command.main(["--resume", str(killed)]) == 0
    for name in ("teacher.safetensors", "distilled.png"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    whole, resumed = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("whole", "killed"))
    assert whole["guard"] is not None
    assert whole["models"] == resumed["models"]


@pytest.mark.slow
def test_files_and_numbers_of_a_method_are_part_of_its_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = toy(tmp_path / "mine.py")
    keeping = """        folder = task.folder("experts")
        print("kept:", list(folder))
        folder.save("grey", torch.zeros(2))
        task.report(grey=0.5)
        labels = torch"""
    path.write_text(path.read_text().replace("        labels = torch", keeping))
    folder = tmp_path / "run"
    report = run(configure("toy", plugin=[path], output=folder, **TINY))
    assert report.reported == {"grey": 0.5}
    assert "The method reports: grey 0.5." in (folder / "report.md").read_text()
    stages = json.loads((folder / "stages.json").read_text())
    kept = "files/experts/grey.safetensors"
    assert kept in stages["distill"]["files"]
    assert kept in stages["report"]["files"]
    assert "kept: []" in capfd.readouterr().out
    (folder / kept).unlink()
    assert command.main(["--resume", str(folder)]) == 0
    said = capfd.readouterr()
    assert f"distill is done again: {kept} is missing" in said.err
    assert json.loads((folder / "report.json").read_text())["reported"] == {"grey": 0.5}
