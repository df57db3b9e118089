"""Every test of the hook must leave PyTorch as it found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.optim import optimizer

from guard_plugins.curvature import active_session as active


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    call = nn.Module.__call__
    hooks = [dict(optimizer._global_optimizer_pre_hooks), dict(optimizer._global_optimizer_post_hooks)]
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    assert nn.Module.__call__ is call
    assert active.current() is None
    assert [dict(optimizer._global_optimizer_pre_hooks), dict(optimizer._global_optimizer_post_hooks)] == hooks
