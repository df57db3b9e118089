"""Plugins that harm others when they are loaded: each is named, and neither another method nor the output suffers."""

from __future__ import annotations

import atexit
import builtins
import gc
import importlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from guard_plugins import configure
from guard_plugins.cli import plugins, run
from guard_plugins.errors import PluginError
from guard_plugins.host import PluginHost
from guard_plugins.host.configure import host_of
from guard_plugins.host.plugin_file import FILES
from guard_plugins.host.used import used_parts
from guard_plugins.pipeline.manifest import record_process
from tests.host.test_isolation import GOOD

Install = Callable[..., None]

CARELESS = {
    "default dtype": ("import torch; torch.set_default_dtype(torch.float64)", "changed the default dtype"),
    "grad mode": (
        "import torch; torch.set_grad_enabled(False)", "changed whether gradients are enabled (True to False)",
    ),
    "backward": (
        "import functools, torch\nold = torch.Tensor.backward\n@functools.wraps(old)\ndef new(*a): return old(*a)"
        "\ntorch.Tensor.backward = new", "changed Tensor.backward",
    ),
    "stdout": ("import os; print('hello'); os.system('echo hello')", "printed to stdout, which went to stderr"),
    "threads": ("import torch; torch.set_num_threads(3)", "changed the number of threads"),
    "deterministic": ("import torch; torch.use_deterministic_algorithms(True)", "changed deterministic algorithms"),
    "torch's stream": ("import torch; torch.manual_seed(0)", "changed PyTorch's global random stream"),
    "numpy's stream": ("import numpy; numpy.random.seed(0)", "changed NumPy's global random stream"),
    "warnings": ("import warnings; warnings.simplefilter('ignore')", "changed the warnings filters"),
    "signals": ("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)", "changed the handler of SIGTERM"),
    "the stream": ("import io, sys; sys.stdout = io.StringIO()", "changed sys.stdout"),
    "json": ("import json; json.dumps = lambda *a, **k: '{}'", "changed json.dumps"),
    "open": ("import builtins; builtins.open = None", "changed builtins.open"),
    "a path": ("import pathlib; pathlib.Path.write_text = lambda *a: 0", "changed Path.write_text"),
    "random": ("import random; random.random = lambda: 0.5", "changed random.random"),
    "a variable": ("import os; os.environ['GUARD_TOY'] = '1'", "changed the variable GUARD_TOY"),
    "a variable that was there": ("import os; os.environ['PATH'] = ''", "changed the variable PATH"),
    "the folder": ("import os; os.chdir('/')", "changed the working folder ("),
    "collector": ("import gc; gc.disable()", "changed the garbage collector (True to False)"),
    "recursion": ("import sys; sys.setrecursionlimit(10**5)", "changed the recursion limit ("),
    "tracing": ("import sys; sys.settrace(lambda *a: None)", "changed sys.settrace"),
    "logging": ("import logging; logging.disable()", "changed logging.disable (0 to 50)"),
    "a module": ("import sys; sys.modules['yaml'] = None", "changed sys.modules['yaml']"),
    "a thread": (
        "import threading; threading.Thread(target=threading.Event().wait, args=(1,), daemon=True, name='t').start()",
        "left a thread running (t)",
    ),
    "functional": ("import torch.nn.functional as F; F.relu = lambda x: x", "changed torch.nn.functional.relu"),
}  # fmt: skip
BROKEN = {
    "Ctrl-C": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "sys.exit": ("import sys; sys.exit(0)", "SystemExit: 0"),
    "os._exit": ("import os; os._exit(0)", "SystemExit: os._exit(0)"),
    "its own": ("class Rude(BaseException): ...\nraise Rude('no')", "Rude: no"),
}


def state() -> list[Any]:
    numpy_state: Any = np.random.get_state()
    return [
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.Tensor.backward,
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_rng_state().sum().item(),
        random.getstate(),
        numpy_state[1].tobytes(),
        ("ignore", None, Warning, None, 0) in warnings.filters,
        signal.getsignal(signal.SIGTERM),
        signal.getsignal(signal.SIGINT),
        sys.stdout,
        torch.nn.functional.relu,
        os._exit,
        os.fork,
        (json.dumps, builtins.open, Path.write_text, random.random, atexit.register),
        (dict(os.environ), str(Path.cwd()), gc.isenabled(), sys.getrecursionlimit(), sys.gettrace()),
        (logging.root.manager.disable, sys.modules["yaml"]),
    ]


SLOW = {"deterministic"}  # PyTorch imports its compiler to set it


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind for kind in CARELESS]
)
def test_what_a_plugin_changes_for_everybody_is_put_back_and_it_is_named(
    kind: str, install: Install, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    source, said = CARELESS[kind]
    install("toy", f"{source}\n{GOOD.format(name='toy')}")
    before = state()
    host = PluginHost(only=["toy"])
    assert state() == before
    assert host.method("toy").name == "toy"
    out, err = capfd.readouterr()
    assert out == ""
    assert "warning: plugin 'toy' of guard-toy 1.0, when it was loaded, " in err
    assert said in err


@pytest.mark.parametrize("kind", BROKEN)
def test_a_plugin_that_ends_the_process_ends_nothing(kind: str, install: Install) -> None:
    source, reason = BROKEN[kind]
    install("toy", f"{source}\n{GOOD.format(name='toy')}")
    host = PluginHost()
    assert host.broken["toy"].reason == reason
    assert host.method("sre2l").name == "sre2l"
    with pytest.raises(PluginError, match=r"The plugin 'toy' of guard-toy 1\.0 is broken"):
        host.method("toy")


def test_what_it_imports_from_comes_after_what_was_there(install: Install) -> None:
    source = (
        "import sys\nclass Finder:\n    @staticmethod\n    def find_spec(name, path=None, target=None):\n"
        "        if name.startswith('guard_'): raise RuntimeError(name)\n"
        "sys.path.insert(0, '/of-toy'); sys.meta_path.insert(0, Finder)\n"
    )
    before = [*sys.path], [*sys.meta_path]
    install("toy", "")
    install("toy", source + "raise ValueError('no')")
    try:
        assert PluginHost(only=["toy"]).broken["toy"].reason == "ValueError: no"
        assert sys.path[-1] == "/of-toy"
        assert sys.meta_path[-1].__name__ == "Finder"  # type: ignore[union-attr]
    finally:
        sys.path[:], sys.meta_path[:] = before


SECOND = """
from pathlib import Path
from guard_plugins.host import PluginHost
host = PluginHost(only=[], files=[Path({path!r})])
print("after", host.broken or [*host.changes.values()])
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os\nif not (child := os.fork()): pass\nelse: os.waitpid(child, 0)", "forked the process"),
        ("import atexit, os; atexit.register(lambda: (print('evil'), os.system('echo evil')))", ""),
    ],
    ids=["a second process", "at the end"],
)
def test_it_goes_on_in_no_second_process_and_prints_nothing_at_the_end(source: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "toy.py"
    path.write_text(f"{source}\n{GOOD.format(name='toy')}")
    found = subprocess.run(
        [sys.executable, "-c", SECOND.format(path=str(path))], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.startswith("after")
    assert found.stdout.count("after") == 1
    assert said in found.stdout
    assert "evil" not in found.stdout
    assert ("evil" in found.stderr) == (not said)


def test_a_real_interruption_still_ends_the_loading(install: Install) -> None:
    install("toy", "import os, signal; os.kill(os.getpid(), signal.SIGINT)\nwhile True: pass")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in scripts, jobs may be told to ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            PluginHost(only=["toy"])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_does_not_load_what_it_does_not_need(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "loaded"
    install("toy", f"open({str(mark)!r}, 'w').close()\n{GOOD.format(name='toy')}")
    asked = ["--method=noise", "--evaluation.protocol=pgd-7", "--student.network=convnet3", "--print-config"]
    assert run.main(asked) == 0
    assert not mark.exists()
    assert run.main([*asked, "--dataset=nowhere"]) == 2
    assert mark.exists()
    assert "Unknown data set 'nowhere'" in capsys.readouterr().err


def test_output_for_programs_is_whole_whatever_a_plugin_prints(
    install: Install, capfd: pytest.CaptureFixture[str]
) -> None:
    install("toy", f"import os; print('{{'); os.system('echo {{')\n{GOOD.format(name='toy')}")
    install("zoo", "raise KeyboardInterrupt")
    assert plugins.main(["--check", "--json"]) == 1
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)}
    assert (rows["toy"]["health"], rows["zoo"]["health"], rows["sre2l"]["health"]) == ("careless", "broken", "ok")
    assert rows["toy"]["reason"] == "when it is loaded it printed to stdout, which went to stderr"
    assert run.main(["--method=toy", "--print-config"]) == 0
    assert yaml.safe_load(capfd.readouterr().out)["method"] == "toy"


def test_a_resumed_run_names_the_distribution_that_is_gone(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("toy", GOOD.format(name="toy"), distribution="guard-toy", version="2.5")
    folder = tmp_path / "run"
    folder.mkdir()
    config = configure("toy")
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    parts = used_parts(config, host_of(config))
    record_process(folder / "manifest.json", seed=0, entries=[], device={}, attacks={}, parts=parts)
    monkeypatch.setattr(importlib.import_module("guard_plugins.host.discovery"), "entry_points", lambda group: ())
    assert run.main(["--resume", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "Unknown method 'toy' (--method): it is not installed any more" in said
    assert "seen: this run was made with guard-toy 2.5" in said
    assert "pip install 'guard-toy==2.5'" in said


def test_a_check_survives_a_plugin_that_kills_its_process(install: Install, capfd: pytest.CaptureFixture[str]) -> None:
    install("toy", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert plugins.main(["--check", "--json"]) == 1
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)}
    assert rows["toy"]["reason"] == "it ended the process (exit code -9)"
    assert rows["sre2l"]["health"] == "ok"


def test_the_choice_between_two_distributions_of_one_name(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("twin", GOOD.format(name="twin"), distribution="guard-a")
    install("twin", GOOD.format(name="twin"), distribution="guard-b")
    with pytest.raises(PluginError) as caught:
        PluginHost().method("twin")
    assert "GUARD_PLUGINS='twin@guard-a,*'" in caught.value.do
    for choice, origin in (("twin@guard-a,*", "guard-a 1.0"), ("noise,twin@guard-b", "guard-b 1.0")):
        monkeypatch.setenv("GUARD_PLUGINS", choice)
        host = PluginHost()
        assert host.methods.registered(host.method("twin").name).origin == origin
        assert ("sre2l" in host.methods) == ("*" in choice)


@pytest.mark.slow
def test_a_hostile_file_in_the_environment_changes_no_bit_of_another_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("\n".join(source for source, _ in CARELESS.values()) + "\n" + GOOD.format(name="bad"))
    asked = ["--method=noise", "--ipc=1", "--device=cpu", "--data.train-per-class=20", "--teacher.epochs=1"]
    asked += ["--student.epochs=1", "--evaluation.protocol=fgsm", "--evaluation.images=10"]
    for name in ("clean", "harmed"):
        if name == "harmed":
            monkeypatch.setenv(FILES, str(bad))
        assert run.main([*asked, f"--output={tmp_path / name}"]) == 0
        said = capfd.readouterr()
        assert said.out.startswith("| model |")
        assert ("plugin 'bad.py' of bad.py" in said.err) == (name == "harmed")
    teachers = [(tmp_path / name / "teacher.safetensors").read_bytes() for name in ("clean", "harmed")]
    assert teachers[0] == teachers[1]
