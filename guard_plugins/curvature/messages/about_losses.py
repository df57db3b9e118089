"""The words of the errors about a loss that cannot be computed again, or comes out otherwise."""

from __future__ import annotations

from guard_plugins.curvature.messages.remedies import EXPLICIT
from guard_plugins.errors import HookError


def broken(why: str) -> HookError:
    """Return the error for a loss that depends on the model in a way that cannot be replayed."""
    return HookError(
        "this loss cannot be computed again at another input",
        seen=why,
        do="avoid that step (loss = loss + part in place of +=, torch.stack or torch.cat, retain_graph=True in the "
        "first of two backward calls, a penalty of gradients in `with hook.paused():`, which adds it as it is), "
        f"or {EXPLICIT}",
    )


def written_since(shape: tuple[int, ...]) -> HookError:
    """Return the error for a tensor that the loss was computed with and that was written before backward."""
    return HookError(
        "this loss cannot be computed again as it was",
        seen=f"a tensor of shape {shape} that the loss was computed with was written between it and backward",
        do="write it after backward (a memory of features, class centres), or give the loss a copy of it (t.clone())",
    )


def dropout_in_loop() -> HookError:
    """Return the error for running statistics beside a dropout that no module of the model does."""
    return HookError(
        'norm_stats="running" computes the term in eval mode, and a dropout of the loop knows no mode',
        seen="the loop calls a dropout itself",
        do="put the dropout into the model, or leave norm_stats out",
    )


def replay_failed(error: Exception) -> HookError:
    """Return the error for a replay that raised."""
    return HookError(
        "computing the loss again at another input failed",
        seen=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        do=f"if the forward pass has side effects, remove them; otherwise {EXPLICIT}",
    )


def other_form(what: str, loop: str, again: str) -> HookError:
    """Return the error for a result that holds other things when it is computed at another input."""
    return HookError(
        f"{what} returns other things at x + z than at x, and nothing tells which of them the loss is made of",
        seen=f"{loop} in the loop's call, {again} in its replay",
        do="return the same keys, and as many things, for every input (a part that is not used may be zero), or "
        f"{EXPLICIT}",
    )


def other_form_in_eval(what: str, loop: str, again: str) -> HookError:
    """Return the error for a result that holds other things in eval mode, in which the term is computed."""
    return HookError(
        f"{what} returns other things in eval mode, and nothing tells which of them the loss is made of",
        seen=f'{loop} in the loop\'s call, {again} in eval mode, as norm_stats="running" asks for',
        do="leave norm_stats out, or return the same things in both modes",
    )


def gradient_failed(error: Exception) -> HookError:
    """Return the error for a gradient with respect to the input that PyTorch could not take."""
    return HookError(
        "the gradient with respect to the input could not be taken",
        seen=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        do="keep the graph of the loss whole until backward; use checkpoint(..., use_reentrant=False)",
    )


def no_double_backward(error: Exception) -> HookError:
    """Return the error for the gradient penalty where PyTorch has no double backward."""
    return HookError(
        'penalty="gradient" differentiates twice, and a part of this model can be differentiated only once',
        seen=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        do='use penalty="loss"; for attention, sdpa_kernel(SDPBackend.MATH); do not compile the model',
    )


def value_differs(loop: float, replayed: float) -> HookError:
    """Return the error for a self-check whose value differs."""
    return HookError(
        "the replayed loss is not the loop's loss, so the term would be wrong",
        seen=f"the loop computed {loop:.6g}, its replay at the same input {replayed:.6g}; some part is random, keeps "
        "state between calls, or cannot be followed (custom autograd.Function, writes into plain tensors)",
        do=f"draw random numbers with PyTorch inside the model, avoid the untracked part, or {EXPLICIT}",
    )


def gradient_differs(difference: float) -> HookError:
    """Return the error for a self-check whose input gradient differs."""
    return HookError(
        "a part of the loss reaches the model's input in a way the hook cannot follow",
        seen=f"the input gradient of the replay differs from the loop's by {difference:.2g} of its norm; typical "
        "causes are a custom autograd.Function, a scripted loss and writes into plain tensors",
        do=f"express that part with ordinary PyTorch operations, or {EXPLICIT}",
    )


def untracked_part(tensor: str, kept: str) -> HookError:
    """Return the error for a loss one of whose parts reaches the input unseen.

    Args:
        tensor: What reaches it.
        kept: The attribute of a module it was computed from, or an empty string.
    """
    if kept:
        what, name = f"kept by a module or a forward hook, as {kept}", kept.rpartition(".")[2]
        do = f"return it from forward, `return out, self.{name}`, and take it from model(x), or {EXPLICIT}"
    else:
        what = "custom autograd.Function, scripted function, or activations kept by a module or a forward hook"
        do = f"express that part with ordinary PyTorch operations on the model's outputs, or {EXPLICIT}"
    return HookError(
        "a part of the loss depends on the model's input in a way the hook cannot follow",
        seen=f"{tensor} leads back to the input through its autograd graph, not through recorded operations ({what})",
        do=do,
    )
