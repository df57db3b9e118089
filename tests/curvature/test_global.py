"""Two gloo processes with half of a batch each train what one process trains with all of it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from guard_plugins.curvature import CurvatureHook
from guard_plugins.curvature.objective import processes
from guard_plugins.networks.global_batchnorm import GlobalBatchNorm2d, make_batchnorm_global
from tests.curvature.worlds import batches, changes, small_net

H = 6.0
"""So long that the wavy loss falls along z for one half of a batch and rises for the other."""
CASES: dict[str, dict[str, Any]] = {
    "weight 1": {"weight": 1.0}, "weight 2": {"weight": 2.0}, "every 2": {"weight": 4.0, "every": 2},
    "gradient": {"weight": 0.5, "penalty": "gradient"}, "running": {"weight": 1.0, "norm_stats": "running"},
    "explicit": {"weight": 1.0}, "squared": {"weight": 1.0},
}  # fmt: skip

Batch = tuple[Tensor, Tensor]


def network() -> nn.Module:
    torch.manual_seed(3)
    return small_net().double()


def wavy(out: Tensor, y: Tensor) -> Tensor:
    """Return a loss that a long step uphill may lower."""
    return F.cross_entropy(out, y) + torch.cos(4 * out).mean()


def train(call: nn.Module, data: list[Batch], hook: CurvatureHook, name: str) -> None:
    opt = torch.optim.SGD(call.parameters(), lr=0.01, momentum=0.9)
    for x, y in data:
        opt.zero_grad()
        if name in ("explicit", "squared"):
            loss: Callable[[Tensor], Tensor] = lambda out, y=y: wavy(out, y)  # noqa: E731
            hook.loss(call, x, loss, squared=name == "squared").backward()
        else:
            with hook:
                wavy(call(x), y).backward()
        opt.step()


def apart(ours: nn.Module, theirs: nn.Module) -> float:
    """Return the largest difference of weights and buffers over the movement since the start."""
    mine, other = ours.state_dict(), theirs.state_dict()
    largest = max(float((v.double() - other[k].double()).abs().max()) for k, v in mine.items())
    return largest / changes(theirs, network().state_dict())


def rounding(name: str, whole: list[Batch], one: nn.Module) -> float:
    """Return how far sums in another order alone take the same training: a long step and a large weight amplify it."""
    other = network()
    turned = [(torch.cat([x[0::2], x[1::2]]), torch.cat([y[0::2], y[1::2]])) for x, y in whole]
    train(other, turned, CurvatureHook(h=H, **CASES[name]), name)
    return apart(other, one)


def gap(name: str, steps: int, rank: int, *, local: bool = False) -> tuple[float, float, bool]:
    """Return how far apart the weights are, how far rounding alone takes them, and whether signs were opposite."""
    options, mean, opposite = CASES[name], processes.mean_over, []

    def watched(group: Any, value: Tensor) -> Tensor:
        found = mean(group, value)
        if value.dim():  # what the hook measured
            return found
        signs = [torch.zeros_like(found) for _ in range(2)]
        dist.all_gather(signs, value.detach().sign())
        opposite.append(bool(signs[0] * signs[1] < 0))
        return value.detach() if local else found

    whole = [(x.double(), y) for x, y in batches(steps, size=8, seed=SEED)]
    one = network()
    train(one, whole, CurvatureHook(h=H, **options), name)
    part = make_batchnorm_global(network())
    processes.mean_over = watched
    try:
        wrapped = DistributedDataParallel(part, broadcast_buffers=False)
        train(wrapped, [(x[rank::2], y[rank::2]) for x, y in whole], CurvatureHook(h=H, **options), name)
    finally:
        processes.mean_over = mean
    return apart(part, one), rounding(name, whole, one), any(opposite)


SEED = 5


def _worker(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    found = {f"{name}, {steps}": gap(name, steps, rank) for name in CASES for steps in (1, 8)}
    found["local sign"] = gap("weight 2", 8, rank, local=True)
    if rank == 0:
        (Path(folder) / "gaps.json").write_text(json.dumps(found))
    dist.barrier()  # neither process may take the group down while the other still talks
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads may abort an interpreter that shuts down; everything is saved by now


@pytest.mark.slow
def test_parts_of_a_batch_train_the_objective_of_the_whole(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(_worker, args=(port, str(tmp_path)), nprocs=2)
    found = json.loads((tmp_path / "gaps.json").read_text())
    control, _, opposite = found.pop("local sign")
    assert opposite
    assert control > 0.1, "with signs of their own, the processes train something else"
    assert {name: value for name, value in found.items() if value[0] > max(1e-13, 10 * value[1])} == {}
    assert max(value for value, _, _ in found.values()) < 1e-10, "rounding may not excuse more than this"
    assert any(opposite for *_, opposite in found.values())


def test_alone_a_global_batchnorm_is_pytorch_s() -> None:
    plain, ours = network(), make_batchnorm_global(network())
    x = batches(1)[0][0].double()
    for _ in range(2):
        assert torch.equal(plain(x), ours(x))
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), ours.state_dict().values(), strict=True))
    layers = [layer for layer in ours.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(layers) == 2
    assert all(type(layer) is GlobalBatchNorm2d for layer in layers)
