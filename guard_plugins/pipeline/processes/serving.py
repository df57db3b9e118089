"""Making items of a run beside the process that does it, as this one asks by the standard input."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.config import RunConfig
from guard_plugins.config.sources import yaml_file
from guard_plugins.host.configure import host_of, resolve
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.preparation import Prepared, build_method, prepare
from guard_plugins.pipeline.processes.shares import make_ahead, make_share
from guard_plugins.runtime.engine import repeatable
from guard_plugins.runtime.malloc import keep_freed_memory
from guard_plugins.runtime.seeds import preserved_streams
from guard_plugins.runtime.sharing.shares import Portion
from guard_plugins.runtime.sharing.told import Order
from guard_plugins.runtime.signals import StopRequest

LOOK: Final = 0.2
"""Seconds between two looks at whether a stop was asked for."""


def serve(folder: Path) -> None:
    """Make what is asked for until the standard input ends; the process ends with it.

    Args:
        folder: The folder of the run.

    Raises:
        GuardError: If the run cannot be prepared here, or an item cannot be made.
    """
    orders: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    keep_freed_memory()
    config = _config(RunFolder(folder).config)
    with preserved_streams(), repeatable(), StopRequest().listening() as stop:
        prepared = prepare(config, host_of(config))
        torch.optim.SGD([torch.zeros(1)], lr=0.0)  # the first optimizer imports modules for two seconds: now, not later
        for line in _heard(orders, stop):
            _obey(prepared, Order.of(line), stop)


def _config(path: Path) -> RunConfig:
    """Return what the run's ``config.yaml`` holds."""
    stored = replace(yaml_file(path), may_be_idle="yes")
    return resolve(str(stored.values["method"]), [stored])


def _listen(orders: queue.Queue[bytes]) -> None:
    for line in sys.stdin.buffer.raw:  # type: ignore[union-attr]  # not the buffer, which is locked at the end
        orders.put(line)
    os._exit(0)  # whoever asked is gone; a file that is half written is nobody's


def _heard(orders: queue.Queue[bytes], stop: StopRequest) -> Iterator[bytes]:
    while True:
        stop.check()
        with contextlib.suppress(queue.Empty):
            yield orders.get(timeout=LOOK)


def _obey(prepared: Prepared, order: Order, stop: StopRequest) -> None:
    """Make what is free of an order, from the end; the method knows nothing of earlier orders."""
    method, hook = build_method(prepared.config, prepared.host)
    share = Portion(order.first, frozenset(order.missing) if order.first else None, backwards=True)
    run = RunContext.start(
        replace(prepared, method=method, hook=hook), RunFolder(Path(order.folder)), stop, share=share
    )
    if order.first:
        make_share(run, order.stage)
    else:
        make_ahead(run)
