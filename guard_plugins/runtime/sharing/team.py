"""All ranks of a run at work on one model: each has a part of every batch, and all keep the same weights.

Sums go through a group of their own, of which a team is the only holder: leaving it closes its connections, so that a
rank that fails lets go of those that wait for it. A wait on a CPU ends with an answer, or when the run has failed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Final

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.torch_version import TorchVersion

from guard_plugins.errors import GuardError, LostError
from guard_plugins.runtime.sharing.claims import place
from guard_plugins.runtime.sharing.ranks import LOOK, WAIT, Ranks

TIMEOUT: Final = timedelta(minutes=30)
"""Longest time between two sums, after which the slowest process counts as gone; a step and a save take less."""
CONNECT: Final = timedelta(seconds=30) if TorchVersion(torch.__version__) >= "2.14" else TIMEOUT
"""Longest time in which processes that are all there connect to each other.

PyTorch 2.6 takes it for every sum as well, whatever limit that is given; 2.14 does not. Those between were not tried.
"""
PATIENCE: Final = 10.0
"""Seconds in which a broken connection is explained by the error of another process; after that it is one itself."""


class Team:
    """This process among all that train a model together. A context manager: leaving it closes all connections.

    Attributes:
        rank: Number of this process; 0 is the one that saves.
        size: Number of processes.

    Args:
        ranks: All of them.
        device: Where the model is.
    """

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        from torch.distributed import AllreduceOptions, ProcessGroupGloo, ReduceOp
        from torch.distributed.distributed_c10d import PrefixStore

        self.rank, self.size, self._stop = ranks.rank, ranks.size, ranks.stop
        store = PrefixStore(ranks.at_work[1], ranks.at_work[0])
        self._sum, self._largest = AllreduceOptions(), AllreduceOptions()
        self._sum.timeout = self._largest.timeout = TIMEOUT
        self._largest.reduceOp = ReduceOp.MAX
        self._meet(store)  # first, since connecting waits in the store and hears of nothing
        try:
            self._gloo: Any = ProcessGroupGloo(PrefixStore("gloo", store), self.rank, self.size, CONNECT)
        except RuntimeError as error:
            self._explain(error)
        self._nccl: Any = None
        if device.type == "cuda" and _each_has_a_gpu(store, self.rank, self.size, device):
            from torch.distributed import ProcessGroupNCCL

            options = ProcessGroupNCCL.Options()
            options._timeout = TIMEOUT
            self._nccl = ProcessGroupNCCL(PrefixStore("nccl", store), self.rank, self.size, options)

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gloo = self._nccl = None

    def add(self, value: Tensor) -> None:
        """Put the sum over all processes in the place of ``value``; all must ask for the same sums in the same order.

        Raises:
            GuardError: If another process failed or is gone.
        """
        if self._nccl is not None and value.device.type == "cuda":
            self._nccl.allreduce([value]).wait()  # queued on the device: the host goes on
        elif value.device.type in ("cpu", "cuda"):
            self._wait(lambda: self._gloo.allreduce([value], self._sum))
        else:
            there = value.cpu()
            self._wait(lambda: self._gloo.allreduce([there], self._sum))
            value.copy_(there)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the means over all processes in the place of ``tensors``, which must have the same shapes everywhere."""
        for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
            same = [tensor for tensor in tensors if tensor.dtype == kind]
            flat = _flatten_dense_tensors([tensor.contiguous() for tensor in same])
            self.add(flat)
            flat /= self.size
            for tensor, mean in zip(same, _unflatten_dense_tensors(flat, same), strict=True):
                tensor.copy_(mean)

    def largest(self, *numbers: int) -> list[int]:
        """Return the largest of all processes' numbers, one by one."""
        found = torch.tensor(numbers)
        self._wait(lambda: self._gloo.allreduce([found], self._largest))
        return [int(number) for number in found]

    def agreed(self, number: int | None) -> int | None:
        """Return the signal that some process has received after this step, or None; the same answer in all.

        Args:
            number: The signal that this process has received.
        """
        return self.largest(number or 0)[0] or None

    def require_same(self, done: int) -> None:
        """Return if all processes go on from the same step.

        Raises:
            GuardError: If one does not.
        """
        most, least = self.largest(done, -done)
        if most != -least:
            raise GuardError(
                "The processes of the run do not find the same state", seen=f"{-least} to {most} steps are done",
                do="They must share the run's folder.",
            )  # fmt: skip

    def _meet(self, store: Any) -> None:
        store.set(f"here/{self.rank}", "")
        for other in range(self.size):
            while not store.check([f"here/{other}"]):
                if self._stop.error is not None:
                    raise self._stop.error
                time.sleep(WAIT)

    def _wait(self, begin: Any) -> None:
        try:
            work = begin()
        except RuntimeError as error:
            self._explain(error)
        while True:
            try:
                work.wait(timedelta(seconds=LOOK))
                return
            except RuntimeError as error:
                if work.is_completed():
                    self._explain(error)
            if self._stop.error is not None:
                raise self._stop.error

    def _explain(self, error: RuntimeError) -> None:
        """Raise what made a connection break."""
        end = time.monotonic() + PATIENCE
        while self._stop.error is None and time.monotonic() < end:
            time.sleep(LOOK / 10)
        raise self._stop.error or LostError(
            "The processes of the run can no longer reach each other", seen=str(error).splitlines()[0],
            do="Start them again with --resume RUN.",
        ) from error  # fmt: skip


def _each_has_a_gpu(store: Any, rank: int, size: int, device: torch.device) -> bool:
    """Return whether all can use NCCL, which wants a GPU of its own for each process."""
    from torch.distributed import is_nccl_available

    if not is_nccl_available():
        return False
    mine = getattr(torch.cuda.get_device_properties(device), "uuid", torch.cuda.current_device())
    store.set(f"gpu/{rank}", f"{place()} {mine}")
    return len({store.get(f"gpu/{other}") for other in range(size)}) == size
