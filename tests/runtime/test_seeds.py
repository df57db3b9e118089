"""The global streams of a work item."""

from __future__ import annotations

import random

import numpy as np
import torch

from guard_plugins.runtime.seeds import Seeds


def test_a_reset_is_that_of_the_libraries_own_functions() -> None:
    seeds = Seeds(3)
    seeds.reset("recover", 5)
    found = torch.rand(4), np.random.rand(4), random.random()
    seed = seeds.derive("recover", 5)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    assert torch.equal(found[0], torch.rand(4))
    assert np.array_equal(found[1], np.random.rand(4))
    assert found[2] == random.random()
