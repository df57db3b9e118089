"""Hearing every torch function the loop calls itself, and none that models, optimisers and replays call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode

Run = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
Aside = Callable[[tuple[Any, ...], dict[str, Any], Any], None]


class Listening(TorchFunctionMode):
    """Hands torch functions to ``run``.

    Args:
        run: Runs one function.
        quiet: Tells whether this is no moment to listen.
        aside: Told of a function's arguments and result at such moments.
    """

    def __init__(self, run: Run, quiet: Callable[[], bool], aside: Aside) -> None:
        super().__init__()
        self._run, self._quiet, self._aside, self._entered = run, quiet, aside, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.compiler.is_compiling():
            return func(*args, **(kwargs or {}))
        if self._quiet():
            result = func(*args, **(kwargs or {}))
            self._aside(args, kwargs or {}, result)
            return result
        return self._run(func, args, kwargs or {})

    def start(self) -> None:
        """Begin to listen, or go on where ``pause`` had no ``resume``."""
        if not self._entered:
            self._entered = True
            _push_mode(self)

    def pause(self) -> bool:
        """Step off the stack of modes, which costs less than being asked and passing; return whether that worked."""
        on_top = self._entered and _top() is self
        if on_top:
            _pop_mode()
            self._entered = False
        return on_top

    @contextmanager
    def off(self) -> Iterator[None]:
        """Hear nothing in the body."""
        paused = self.pause()
        try:
            yield
        finally:
            if paused:
                self.start()

    def stop(self) -> None:
        """Leave the stack, wherever in it: the loop may have entered modes of its own and not left them."""
        if not self._entered:
            return
        above = []
        while torch._C._len_torch_function_stack():
            top = _pop_mode()
            if top is self:
                break
            above.append(top)
        for other in reversed(above):
            _push_mode(other)
        self._entered = False


def _top() -> Any:
    depth = torch._C._len_torch_function_stack()
    return torch._C._get_function_stack_at(depth - 1) if depth else None
