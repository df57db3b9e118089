"""BatchNorm with the statistics of the whole batch, where several processes have a part of it each.

PyTorch's ``SyncBatchNorm`` is for CUDA only and can be differentiated once. A curvature term needs the second
derivative, and the gradient of a sample's input through the statistics that other processes' samples share.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from guard_plugins.curvature.objective.processes import add_over


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of their gradients, so it can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = x.detach().clone()
        add_over(group, total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(grad.contiguous(), ctx.group), None  # type: ignore[no-untyped-call]


class _Global(nn.modules.batchnorm._BatchNorm):
    """Replaces the forward pass in training mode; weights, buffers and names stay."""

    process_group: Any = None

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised activations of the shape of ``x``, (B, C, ...)."""
        alone = self.process_group is None and not torch.distributed.is_initialized()
        if not self.training or alone:
            return super().forward(x)
        self._check_input_dim(x)
        dims, shape = [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]
        counted = torch.cat([x.sum(dims), x.new_tensor([x.numel() / x.shape[1]])])
        totals: Tensor = _Sum.apply(counted, self.process_group)  # type: ignore[no-untyped-call]
        count = totals[-1].detach()
        mean = totals[:-1] / count
        centred = x - mean.view(shape)
        # In two steps: the difference of square sum and squared mean would lose the digits of a small variance.
        spread: Tensor = _Sum.apply(centred.square().sum(dims), self.process_group)  # type: ignore[no-untyped-call]
        variance = spread / count
        self._track(mean.detach(), variance.detach(), count)
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        if self.weight is None:
            return normal
        return normal * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / (count - 1), share)


class GlobalBatchNorm1d(_Global, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` over the batches of all processes."""


class GlobalBatchNorm2d(_Global, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over the batches of all processes."""


class GlobalBatchNorm3d(_Global, nn.BatchNorm3d):
    """``nn.BatchNorm3d`` over the batches of all processes."""


GLOBAL: Final[dict[type[nn.Module], type[_Global]]] = {
    nn.BatchNorm1d: GlobalBatchNorm1d, nn.BatchNorm2d: GlobalBatchNorm2d, nn.BatchNorm3d: GlobalBatchNorm3d,
}  # fmt: skip
"""The global class of each of PyTorch's."""


def make_batchnorm_global(model: nn.Module, process_group: Any = None) -> nn.Module:
    """Have every BatchNorm of ``model`` use the statistics of all processes' batches in training, and return it.

    The layers are changed in place: weights, buffers, names and ``isinstance`` stay. Without ``torch.distributed`` and
    in eval mode they compute what they did. Call it before the model is wrapped in DistributedDataParallel.

    Args:
        model: The model.
        process_group: The processes; all where None.
    """
    for module in model.modules():
        if type(module) in GLOBAL:
            module.__class__ = GLOBAL[type(module)]
            module.process_group = process_group
    return model


def make_batchnorm_local(model: nn.Module) -> None:
    """Undo :func:`make_batchnorm_global`: the layers are PyTorch's again, with the weights and buffers they have."""
    known: dict[type[nn.Module], type[nn.Module]] = {kind: plain for plain, kind in GLOBAL.items()}
    for module in model.modules():
        if type(module) in known:
            module.__dict__.pop("process_group", None)
            module.__class__ = known[type(module)]


def not_made_global(model: nn.Module) -> list[str]:
    """Return the names of layers that normalise by the batch and that :func:`make_batchnorm_global` leaves as they are.

    These are layers of other classes, such as PyTorch's SyncBatchNorm or one of a plugin.
    """
    kinds = (nn.modules.batchnorm._BatchNorm,)
    known = {*GLOBAL, *GLOBAL.values()}
    return [name for name, module in model.named_modules() if isinstance(module, kinds) and type(module) not in known]
