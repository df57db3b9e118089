"""What many of the hook's errors tell the reader to do."""

from __future__ import annotations

from typing import Final

EXPLICIT: Final = "use the explicit form, loss = hook.loss(model, x, loss_fn)"
WATCH: Final = "x = hook.watch(x) before the first use of x"
