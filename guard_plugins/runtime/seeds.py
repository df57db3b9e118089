"""All randomness of a run, derived from one seed: every work item (stage, index) has its own stream."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Seeds:
    """Derives independent, order-free seeds from one root seed.

    Work items never share a stream, so a resumed or sharded run draws exactly what an uninterrupted one draws.

    Args:
        root: The seed of the run (any non-negative integer).
    """

    def __init__(self, root: int) -> None:
        self.root = root

    def derive(self, *path: str | int) -> int:
        """Return a seed in [0, 2**63) that depends on the root seed and on ``path`` only."""
        key = "/".join(map(str, (self.root, *path))).encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1

    def child(self, *path: str | int) -> Seeds:
        """Return the seeds of a sub-task, as if ``path`` were prefixed to every derivation."""
        return Seeds(self.derive(*path))

    def generator(self, *path: str | int, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a generator of its own for one work item."""
        import torch

        return torch.Generator(device=device).manual_seed(self.derive(*path))

    def reset(self, *path: str | int) -> None:
        """Seed PyTorch's (every device), NumPy's and Python's global streams for one work item."""
        import numpy as np
        import torch

        seed = self.derive(*path)
        if torch.accelerator.is_available():
            torch.manual_seed(seed)
        else:  # that would keep a stack trace of every call, for devices that are not there: 0.6 ms a step
            torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)


@contextlib.contextmanager
def preserved_streams() -> Iterator[None]:
    """Restore PyTorch's (every device), NumPy's and Python's global random streams on leaving."""
    import numpy as np
    import torch

    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
