"""The hook benchmark prints a table and stores numbers with the machine they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from examples.benchmarks.hook import main, table
from examples.benchmarks.hook_measure import Cost, training
from examples.benchmarks.hook_networks import NETWORKS
from examples.benchmarks.hook_steps import VARIANTS


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "hook.json"
    options = ["--networks", "convnet3", "--batch", "4", "--rounds", "1", "--threads", "1", "--clock", "cpu"]
    assert main([*options, "--json", str(target)]) == 0
    printed = capsys.readouterr().out
    stored = json.loads(target.read_text())
    assert stored["command"].startswith("python -m examples.benchmarks.hook --networks convnet3")
    assert stored["torch"] == torch.__version__
    assert stored["threads"] == 1
    costs = stored["results"]["convnet3"]
    assert list(costs) == list(VARIANTS)
    assert costs["plain"]["ratio"] == 1
    # orders of cost that no noise overturns
    assert costs["hook, weight 1"]["ratio"] < costs["hook, gradient (CURE)"]["ratio"]
    assert costs["hook, weight 1"]["ratio"] < costs["PGD-10"]["ratio"] / 2
    assert all(name in printed for name in VARIANTS)


def test_table() -> None:
    text = table("net", {"plain": Cost(10.0, 1.0, None), "hook": Cost(16.7, 1.67, 12.3)})
    assert "plain                           10.0      1.00         –" in text
    assert "hook                            16.7      1.67        12" in text


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_take_32_pixel_images(name: str) -> None:
    work = training(NETWORKS[name], batch=2, device=torch.device("cpu"))
    assert work.net(work.x).shape == (2, 10)
    assert work.net.training


def test_the_gradient_penalty_can_differentiate_attention_twice() -> None:
    work = training(NETWORKS["vit-tiny"], batch=1, device=torch.device("cpu"))
    VARIANTS["hook, gradient (CURE)"](work, 1)
    assert all(p.grad is not None for p in work.net.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_each_way_trains(name: str) -> None:
    work = training(lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)), batch=4,
                    device=torch.device("cpu"))  # fmt: skip
    before = work.net[1].weight.detach().clone()
    VARIANTS[name](work, 2)
    assert not torch.equal(before, work.net[1].weight)
    assert work.net.training
