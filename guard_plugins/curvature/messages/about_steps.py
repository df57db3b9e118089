"""The words of the errors about steps whose gradients the hook did not make, or cannot count."""

from __future__ import annotations

from guard_plugins.curvature.messages.remedies import EXPLICIT
from guard_plugins.errors import HookError


def unseen_gradients(what: str, count: int, seen: str) -> HookError:
    """Return the error for gradients that a backward call outside the record left in weights."""
    return HookError(
        "an optimiser step was about to use gradients the hook never saw",
        seen=f"{what} was differentiated on its own, and its gradients are still in {count} weights; it was not "
        "computed from a recorded model call by operations the hook follows (not by a custom autograd.Function, a "
        f"scripted function, or a function compiled by torch.compile); {seen}",
        do="compute it from the output of model(x) with ordinary PyTorch operations; or, if it is not to be "
        "regularised, put it in `with hook.paused():`; zero the gradients first if they belong to an attack; or "
        f"{EXPLICIT}",
    )


def unseen_gradient(what: str) -> HookError:
    """Return the error for autograd.grad with respect to weights, of a loss outside the record."""
    return HookError(
        "torch.autograd.grad was asked for gradients of weights the hook never saw",
        seen=f"{what} was not computed from a recorded model call by operations the hook follows",
        do="compute it from the output of model(x) with ordinary PyTorch operations; if it is not to be regularised, "
        f"put it in `with hook.paused():`; or {EXPLICIT}",
    )


def wants_features() -> HookError:
    """Return the error for gradients of weights and of tensors inside the loop's graph in one call."""
    return HookError(
        "gradients of weights and of features were asked for in one call",
        seen="torch.autograd.grad with tensors that the loop computed beside weights",
        do="ask for those of the features first (retain_graph=True), then for those of the weights: only these are "
        "regularised",
    )


def half_due() -> HookError:
    """Return the error for a loss of which one part is due for the term and another is not."""
    return HookError(
        "a loss joins a model that is due for the term at this step with one that is not",
        seen="every= counts the steps of each model, and theirs differ",
        do="use every=1, or step the models that share a loss together",
    )


def step_unreached(seen: str) -> HookError:
    """Return the error for an optimiser step without a backward pass the hook saw."""
    return HookError(
        "an optimiser step was about to use gradients the hook never saw",
        seen=seen,
        do="check that the loss is computed from the output of a call model(x) by ordinary PyTorch operations; name "
        f"the model with CurvatureHook(model=...); wrap attacks in hook.paused(); or {EXPLICIT}",
    )


def never_fired(seen: str) -> HookError:
    """Return the error for a context that ended without a regularised backward pass."""
    return HookError(
        "the hook was never reached",
        seen=seen,
        do="wrap the function that trains; call the model as model(x) and backward on a loss computed from its output; "
        f"or {EXPLICIT}",
    )


def steps_by_hand(count: int) -> HookError:
    """Return the error for a loop without an optimiser, whose steps cannot be counted."""
    return HookError(
        "`every` and `ramp` count the steps of an optimiser, and this loop updates its weights itself",
        seen=f"weights changed {count} times in one context, and nothing of torch.optim made a step",
        do="open a context for each step (contexts are counted then), use torch.optim, or leave every and ramp out",
    )
