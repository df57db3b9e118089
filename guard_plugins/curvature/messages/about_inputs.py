"""The words of the errors about what x is: several inputs, second routes, tensors that cannot be x."""

from __future__ import annotations

from collections.abc import Sequence

from guard_plugins.curvature.messages.remedies import WATCH
from guard_plugins.errors import HookError


def several_inputs(module: str, shown: Sequence[str], last: str) -> HookError:
    """Return the error for a call with several float inputs."""
    return HookError(
        f"{module} received several float inputs, and nothing says which of them is x",
        seen=", ".join(shown),
        do=f"name the argument, CurvatureHook(input={last!r}); or mark it in the loop, {WATCH}; "
        "what is neither named nor watched is data",
    )


def list_input(module: str, name: str, shape: tuple[int, ...]) -> HookError:
    """Return the error for a list as x."""
    return HookError(
        f"{module} received a list of tensors as x, and nothing says whether each is a sample or a batch",
        seen=f"{name} {shape}",
        do="mark the list in the loop, images = hook.watch(images, unbatched=True) where each tensor is one sample, "
        "unbatched=False where each is a batch",
    )


def doubtful_input(module: str, name: str, shape: tuple[int, ...]) -> HookError:
    """Return the error for the only float input of a call that looks like a mask or a target."""
    return HookError(
        f"{module} received one float input beside integer ones, and it may be a mask or a target rather than x",
        seen=f"{name} {shape}",
        do=f"if it is x, write CurvatureHook(input={name!r}); integer ids cannot be moved: watch their embeddings, "
        "e = hook.watch(embed(ids).detach()), or wrap this training in hook.paused()",
    )


def unusable_input(module: str, name: str, kind: str) -> HookError:
    """Return the error for an input that cannot be moved."""
    return HookError(
        f"{module} received x in a form that cannot be moved",
        seen=f"{name} is {kind}",
        do=f"make it from a dense tensor with the batch first, and mark that one: {WATCH}",
    )


def cannot_watch(seen: str) -> HookError:
    """Return the error for ``hook.watch`` on something that is not data."""
    return HookError(
        "hook.watch was given something that cannot be x",
        seen=seen,
        do="watch dense floating-point data before anything is computed from it; x = hook.watch(x.detach()) takes the "
        "numbers of a tensor that requires a gradient",
    )


def cannot_be_x(seen: str) -> HookError:
    """Return the error for an x of the explicit form that cannot be moved."""
    return HookError(
        "hook.loss was given something that cannot be x",
        seen=seen,
        do="pass dense floating-point data, alone or in a list, tuple or dict; integer ids cannot be moved: pass their "
        "embeddings, hook.loss(rest_of_model, embed(ids), loss_fn)",
    )


def alias(tensor: str, source: str) -> HookError:
    """Return the error for x, or a view of it, that reaches the loss beside the recorded x."""
    return HookError(
        "the data reach the loss by a second route, which would stay at x while the first one moves",
        seen=f"{tensor} shares the numbers of x, {source}, and meets a tensor computed from it",
        do=f"if it moves with x, write {WATCH}; if it is a fixed target, write x.detach() there",
    )


def derived(tensor: str, source: str) -> HookError:
    """Return the error for a tensor computed from x by unrecorded operations."""
    return HookError(
        "the data reach the loss by a second route, which would stay at x while the first one moves",
        seen=f"{tensor} was computed from x, {source}, by operations that were not recorded",
        do=f"if it moves with x, write {WATCH}; if it is fixed, compute it under torch.no_grad() or write .detach()",
    )


def transformed(tensor: str, source: str) -> HookError:
    """Return the error for a part of the loss that a transform of torch.func may have computed from x."""
    return HookError(
        "the data reach the loss through a transform of torch.func (vmap, grad, jvp ...), which the hook cannot follow",
        seen=f"{tensor} is part of the loss, and may come from a transform that was given x, {source}",
        do="compute this part without torch.func; or, if it is fixed, under torch.no_grad() or with .detach()",
    )


def detached_input(features: str, maker: str, source: str) -> HookError:
    """Return the error for features without a graph that are the input of a model, beside data that are one."""
    return HookError(
        "a model received features without a graph beside x, and nothing says whether they are fixed or an x as well",
        seen=f"{features} was made by {maker} and detached, or made without gradients; x is {source}",
        do=f"if they are fixed, write {WATCH}: then nothing else moves; if they move as well, each with a z of its "
        "own, watch them too, f = hook.watch(f.detach())",
    )


def made_from_one(tensor: str, source: str) -> HookError:
    """Return the error for a tensor that was made from the same data as x, or that x was made from."""
    return HookError(
        "the data reach the loss by a second route, which would stay at x while the first one moves",
        seen=f"{tensor} and x, {source}, were made from the same data by operations that were not recorded",
        do=f"if both move with the data, write {WATCH}; if the former is fixed, write .detach() on it; if they are "
        "two inputs, each with a z of its own, write a, b = hook.watch((a, b)) before the model is called",
    )


def fresh_beside(module: str, tensor: str) -> HookError:
    """Return the error for fresh data beside a recorded tensor in a trainable module."""
    return HookError(
        f"{module} received fresh float data beside a tensor computed from x",
        seen=f"{tensor}, which is no weight and not recorded",
        do="if both are x, watch both (x = hook.watch(x)); if only one is, watch that one or name its module, "
        "CurvatureHook(model=...); the other is data then",
    )


def cut_off(module: str, tensor: str) -> HookError:
    """Return the error for a model whose input depends on x by masks and indices alone."""
    return HookError(
        f"{module} received a float input that depends on x only by comparisons or indices, which have no gradient",
        seen=tensor,
        do="write .detach() on it: then it is data, and the x of that model; or watch the data it is made from, "
        f"{WATCH}",
    )


def attribute_of_x(module: str, name: str) -> HookError:
    """Return the error for a tensor computed from x that the loop set on a module."""
    return HookError(
        f"a tensor computed from x was set on {module}, where the hook cannot move it",
        seen=f"attribute {name!r}",
        do="hand it to the module as an argument; or write .detach() if it is fixed",
    )


def read_inside(module: str, tensor: str) -> HookError:
    """Return the error for x, or a tensor computed from it, that a module reads otherwise than as an argument."""
    return HookError(
        f"{module} reads x, or a tensor made from it, otherwise than from its arguments, where the hook cannot move it",
        seen=f"{tensor}, read through an attribute, a container or a closure",
        do="hand it to the module as an argument; or write .detach() where it is stored, if it is fixed",
    )


def overwritten(source: str) -> HookError:
    """Return the error for an x that changed between forward and backward."""
    return HookError(
        "x was written into after the model had received it",
        seen=source,
        do="write into a copy (x = x.clone()), or call backward first",
    )


def about_its_input(module: str, error: Exception) -> HookError | None:
    """Return the error for a model whose input must have no gradient, by what PyTorch says of it; None of others."""
    text = str(error)
    if "leaf Variable that requires grad" in text:
        return writes_its_input(module, error)
    if "numpy() on Tensor that requires grad" in text or "one of the arguments requires grad" in text:
        return HookError(
            f"{module} uses its input in a way that PyTorch allows only without gradients, and the hook needs one of x",
            seen=text.splitlines()[0],
            do="use x.detach() there: x.detach().cpu().numpy(), torch.mul(x.detach(), 2, out=buffer)",
        )
    return None


def writes_its_input(module: str, error: Exception) -> HookError:
    """Return the error for a model that changes its input tensor in place."""
    return HookError(
        f"{module} writes into its own input, which the hook needs as it was",
        seen=str(error).splitlines()[0],
        do="let the model work on a copy (x = x.clone()), or use an operation that is not in place",
    )


def still_attacked(shape: tuple[int, ...]) -> HookError:
    """Return the error for a loss of an input that requires a gradient beside one that is regularised."""
    return HookError(
        "a part of this loss would stay unregularised",
        seen=f"a tensor of shape {shape} comes from a model whose input requires a gradient already",
        do="finished adversarial images: x_adv = x_adv.detach(); an input that is trained itself: compute its part in "
        "`with hook.paused():`, which adds it as it is",
    )
