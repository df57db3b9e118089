"""Telling apart the wrappers modules come in: data parallel, compiled, scripted, sharded."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

# by name: importing these classes pulls in all of torch.distributed, or Opacus
_CLOSED = frozenset({"FullyShardedDataParallel", "FSDPModule", "GradSampleModule"})


def is_ddp(module: nn.Module) -> bool:
    """Return whether ``module`` is a DistributedDataParallel wrapper."""
    return isinstance(module, DistributedDataParallel)


def is_compiled(module: nn.Module) -> bool:
    """Return whether ``module``, or the module it wraps, runs through torch.compile."""
    return any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in module.modules())


def is_opaque(module: nn.Module) -> bool:
    """Return whether calls of ``module`` are replayed as a whole: it has parameters, buffers or compiled code."""
    if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):
        return True
    has_parameters = next(module.parameters(), None) is not None
    return has_parameters or next(module.buffers(), None) is not None


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside any data-parallel and compile wrappers."""
    while True:
        inner = module.module if is_ddp(module) else getattr(module, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def without_ddp(module: nn.Module) -> nn.Module:
    """Return what replays call in place of ``module``.

    Through ``.module``: a second forward pass of the wrapper would broadcast buffers in place and confuse its
    bookkeeping of gradients.
    """
    inner = module.module if is_ddp(module) else module
    return inner if isinstance(inner, nn.Module) else module


def unsupported_wrapper(module: nn.Module) -> str:
    """Return the name of a wrapper the hook cannot see through, or an empty string."""
    if isinstance(module, DataParallel):
        return "DataParallel"
    return next((c.__name__ for c in type(module).__mro__ if c.__name__ in _CLOSED), "")
