"""Two gloo processes: DistributedDataParallel under the hook trains what a twin averaging by hand trains."""

from __future__ import annotations

import copy
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from guard_plugins.curvature import CurvatureHook
from tests.curvature.worlds import Twin, World, as_written, assert_same, world

pytestmark = pytest.mark.slow

CASES = {
    "weight 1": ({}, {"weight": 1.0}),
    "weight 2": ({}, {"weight": 2.0}),
    "static graph": ({"static_graph": True}, {"weight": 2.0}),
    "unused parameters": ({"find_unused_parameters": True}, {"weight": 1.0}),
    "gradient": ({}, {"weight": 0.5, "penalty": "gradient"}),
    "every 2": ({}, {"weight": 2.0, "every": 2}),
}


def _world(rank: int) -> World:
    w = world()
    w.net.double()
    w.data = [(x.double()[rank::2], y[rank::2]) for x, y in w.data]
    return w


def _train(w: World, call, loss_at, after_backward=lambda: None) -> None:
    opt = w.optimizer()
    for step, (x, y) in enumerate(w.data):
        opt.zero_grad()
        loss_at(lambda x, y=y: F.cross_entropy(call(x), y), x, step).backward()
        after_backward()
        opt.step()


def _average(w: World) -> None:
    for p in w.net.parameters():
        dist.all_reduce(p.grad)
        p.grad /= 2


def _worker(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for name, (wrapper, options) in CASES.items():
        ours, twin = _world(rank), _world(rank)
        start = copy.deepcopy(ours.net.state_dict())
        hook = CurvatureHook(h=0.5, **options)
        call = DistributedDataParallel(ours.net, broadcast_buffers=False, **wrapper)
        with hook:
            _train(ours, call, lambda f, x, step: as_written(f, x))
        every = options.get("every", 1)
        by_hand = Twin(twin.net, h=0.5, **{k: v for k, v in options.items() if k != "every"})
        _train(
            twin,
            twin.net,
            lambda f, x, step, by_hand=by_hand, every=every: f(x) if step % every else by_hand(f, x),
            lambda twin=twin: _average(twin),
        )
        assert_same(ours.net, twin.net, start, tolerance=1e-9)
        assert hook.summary().steps == 4, name
        (Path(folder) / f"{name}-{rank}").touch()
    dist.barrier()  # neither process may take the group down while the other still talks
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads may abort an interpreter that shuts down; everything is saved by now


def test_two_processes_equal_the_twin(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(_worker, args=(port, str(tmp_path)), nprocs=2)
    assert len(list(tmp_path.iterdir())) == 2 * len(CASES)
