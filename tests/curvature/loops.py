"""Training loops of many styles; ``loss_at`` is the only seam, through which the twin computes its objective.

Under the hook, ``loss_at(f, x)`` is just ``f(x)``: the loop as its author wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import cross_entropy as imported_early
from torch.utils.checkpoint import checkpoint

from tests.curvature.worlds import LossAt, World, small_net

Loop = Callable[[World, LossAt], None]


def _simple(loss_of: Callable[[Tensor, Tensor], Tensor]) -> Loop:
    def loop(w: World, loss_at: LossAt) -> None:
        opt = w.optimizer()
        for x, y in w.data:
            opt.zero_grad()
            loss = loss_at(lambda x, y=y: loss_of(w.net(x), y), x)
            loss.backward()
            opt.step()

    return loop


def smooth_by_hand(out: Tensor, y: Tensor) -> Tensor:
    log_p = out.log_softmax(-1)
    hard = -log_p.gather(1, y[:, None]).squeeze(1)
    return (0.9 * hard - 0.1 * log_p.mean(-1)).mean()


def soft_targets(out: Tensor, y: Tensor) -> Tensor:
    target = 0.7 * F.one_hot(y, 4) + 0.3 * F.one_hot(y.flip(0), 4)
    return F.cross_entropy(out, target.to(out.dtype))


def mixed_sum(out: Tensor, y: Tensor) -> Tensor:
    return 0.7 * F.cross_entropy(out, y) + (1 - 0.7) * F.cross_entropy(out, y.flip(0))


def in_place(out: Tensor, y: Tensor) -> Tensor:
    out = out * 1.5
    out += 0.25
    loss = F.cross_entropy(out, y)
    loss /= 2
    loss += out.square().mean() * 0.01
    return loss


def reordered_in_place(out: Tensor, y: Tensor) -> Tensor:
    early = out.square().mean()
    doubled = early * 2
    early += 1
    return early + doubled + F.cross_entropy(out, y)


def rows_assigned(out: Tensor, y: Tensor) -> Tensor:
    out = out * 1.0
    out[0] = out[0] * 0.5
    return F.cross_entropy(out, y)


def with_dropout(out: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(F.dropout(out, 0.4), y) + (out * torch.rand_like(out)).mean()


class Focal(nn.Module):
    """A criterion of one's own."""

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        ce = F.cross_entropy(out, y, reduction="none")
        return ((1 - torch.exp(-ce)) ** self.gamma * ce).mean()


class Weighted(nn.Module):
    """A criterion with parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, dtype=torch.float64))

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out * self.scale, y)


def weighted_criterion(w: World, loss_at: LossAt) -> None:
    criterion = Weighted()
    w.net.scale = criterion  # so that its weights are compared too
    net = nn.Sequential(*[m for name, m in w.net.named_children() if name != "scale"])
    opt = torch.optim.SGD(w.net.parameters(), lr=0.05)
    for x, y in w.data:
        opt.zero_grad()
        loss_at(lambda x, y=y: criterion(net(x), y), x).backward()
        opt.step()


def accumulation(w: World, loss_at: LossAt) -> None:
    opt = w.optimizer()
    for i, (x, y) in enumerate(w.data):
        loss = loss_at(lambda x, y=y: F.cross_entropy(w.net(x), y) / 2, x)
        loss.backward()
        if i % 2:
            torch.nn.utils.clip_grad_norm_(w.net.parameters(), 1.0)
            opt.step()
            opt.zero_grad()


def two_batches_summed(w: World, loss_at: LossAt) -> None:
    opt = w.optimizer()
    for i in range(0, len(w.data), 2):
        (x1, y1), (x2, y2) = w.data[i : i + 2]
        opt.zero_grad()
        joint = torch.cat([x1, x2])  # the twin sees one input, the loop two

        def objective(x: Tensor, y1: Tensor = y1, y2: Tensor = y2) -> Tensor:
            a, b = x[: len(y1)], x[len(y1) :]
            if not x.requires_grad:
                a, b = a.clone(), b.clone()
            return F.cross_entropy(w.net(a), y1) + 0.5 * F.cross_entropy(w.net(b), y2)

        loss_at(objective, joint).backward()
        opt.step()


def same_batch_twice(w: World, loss_at: LossAt) -> None:
    """R-Drop: two passes of one batch under different dropout masks."""
    opt = w.optimizer()
    for x, y in w.data:

        def objective(x: Tensor, y: Tensor = y) -> Tensor:
            a, b = w.net(x), w.net(x)
            kl = F.kl_div(a.log_softmax(-1), b.softmax(-1), reduction="batchmean")
            return F.cross_entropy(a, y) + F.cross_entropy(b, y) + 0.1 * kl

        opt.zero_grad()
        loss_at(objective, x).backward()
        opt.step()


def distillation(w: World, loss_at: LossAt) -> None:
    torch.manual_seed(11)
    teacher = small_net().double().eval()
    opt = w.optimizer()
    for x, y in w.data:

        def objective(x: Tensor, y: Tensor = y, x0: Tensor = x) -> Tensor:
            with torch.no_grad():
                target = teacher(x0).softmax(-1)
            out = w.net(x)
            return F.kl_div(out.log_softmax(-1), target, reduction="batchmean") + 0.5 * F.cross_entropy(out, y)

        opt.zero_grad()
        loss_at(objective, x).backward()
        opt.step()


def evaluation_inside(w: World, loss_at: LossAt) -> None:
    opt = w.optimizer()
    for x, y in w.data:
        opt.zero_grad()
        loss = loss_at(lambda x, y=y: F.cross_entropy(w.net(x), y), x)
        loss.backward()
        opt.step()
        w.net.eval()
        with torch.no_grad():
            quiet = w.net(x)
        loud = w.net(x)
        assert (quiet.argmax(1) == loud.argmax(1)).all()
        assert f"{F.cross_entropy(loud, y):.4f}"
        assert float(loss.detach()) >= 0
        w.net.train()


def lbfgs(w: World, loss_at: LossAt) -> None:
    opt = torch.optim.LBFGS(w.net.parameters(), lr=0.2, max_iter=4)
    for x, y in w.data[:2]:

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            opt.zero_grad()
            loss = loss_at(lambda x: F.cross_entropy(w.net(x), y), x)
            loss.backward()
            return loss

        opt.step(closure)


def autograd_grad(w: World, loss_at: LossAt) -> None:
    params = list(w.net.parameters())
    for x, y in w.data:
        loss = loss_at(lambda x, y=y: F.cross_entropy(w.net(x), y), x)
        grads = torch.autograd.grad(loss, params)
        with torch.no_grad():
            for p, g in zip(params, grads, strict=True):
                p -= 0.05 * g


def autograd_backward(w: World, loss_at: LossAt) -> None:
    opt = w.optimizer()
    for x, y in w.data:
        opt.zero_grad()
        torch.autograd.backward([loss_at(lambda x, y=y: F.cross_entropy(w.net(x), y), x)])
        opt.step()


def gradient_argument(w: World, loss_at: LossAt) -> None:
    """Backward on per-sample losses with a weight each; the twin differentiates the same sum."""
    opt = w.optimizer()
    weights = torch.linspace(0.05, 0.2, 8, dtype=torch.float64)
    for x, y in w.data:
        opt.zero_grad()
        if loss_at.__class__.__name__ == "Twin":
            loss_at(lambda x, y=y: (F.cross_entropy(w.net(x), y, reduction="none") * weights).sum(), x).backward()
        else:
            F.cross_entropy(w.net(x), y, reduction="none").backward(weights)
        opt.step()


def backbone_and_head(w: World, loss_at: LossAt) -> None:
    opt = w.optimizer()
    backbone, head = w.net[:5], w.net[5:]
    drop = nn.Dropout(0.2)
    for x, y in w.data:
        opt.zero_grad()
        loss_at(lambda x, y=y: F.cross_entropy(head(drop(backbone(x)).relu()), y), x).backward()
        opt.step()


def weight_penalty(w: World, loss_at: LossAt) -> None:
    opt = w.optimizer()
    for x, y in w.data:

        def objective(x: Tensor, y: Tensor = y) -> Tensor:
            l2 = sum((p.square().sum() for p in w.net.parameters()), torch.zeros(()))
            return F.cross_entropy(w.net(x), y) + 0.01 * l2

        opt.zero_grad()
        loss_at(objective, x).backward()
        opt.step()


def cosine_head(w: World, loss_at: LossAt) -> None:
    """The head's weights are normalised by the loop: a tensor with a graph of its own takes part."""
    opt = w.optimizer()
    for x, y in w.data:

        def objective(x: Tensor, y: Tensor = y) -> Tensor:
            feats = F.normalize(w.net[:8](x), dim=1)
            return F.cross_entropy(feats @ F.normalize(w.net[8].weight, dim=1).T / 0.1, y)

        opt.zero_grad()
        loss_at(objective, x).backward()
        opt.step()


def watched_gradients(w: World, loss_at: LossAt) -> None:
    for p in w.net.parameters():
        p.register_hook(lambda g: g.clamp(-0.01, 0.01))
    _simple(F.cross_entropy)(w, loss_at)


def step_in_backward(w: World, loss_at: LossAt) -> None:
    """Each weight is updated as soon as its gradient is complete."""

    def update(p: Tensor) -> None:
        with torch.no_grad():
            p -= 0.05 * p.grad
        p.grad = None

    for p in w.net.parameters():
        p.register_post_accumulate_grad_hook(update)
    for x, y in w.data:
        loss_at(lambda x, y=y: F.cross_entropy(w.net(x), y), x).backward()


def retained(w: World, loss_at: LossAt) -> None:
    """Two losses of one forward pass, differentiated one after the other."""
    opt = w.optimizer()
    for x, y in w.data:
        opt.zero_grad()
        before = torch.get_rng_state()
        if loss_at.__class__.__name__ == "Twin":
            loss_at(lambda x, y=y: F.cross_entropy(w.net(x), y), x).backward()
            # the loop makes one forward pass: the same masks again, and buffers moved once only
            saved = [(b, b.clone()) for b in w.net.buffers()]
            torch.set_rng_state(before)
            loss_at(lambda x: w.net(x).square().mean() * 0.1, x).backward()
            for b, v in saved:
                b.data.copy_(v)
        else:
            out = w.net(x)
            F.cross_entropy(out, y).backward(retain_graph=True)
            (out.square().mean() * 0.1).backward()
        opt.step()


def checkpointed(w: World, loss_at: LossAt) -> None:
    class Checkpointed(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Any:
            return checkpoint(self.inner, x, use_reentrant=False)

    # no BatchNorm: checkpointing itself moves running statistics once more in every backward pass
    w.net[1], w.net[5] = nn.GroupNorm(2, 6).double(), nn.GroupNorm(2, 6).double()
    net = Checkpointed(w.net)
    opt = w.optimizer()
    for x, y in w.data:
        opt.zero_grad()
        loss_at(lambda x, y=y: F.cross_entropy(net(x), y), x).backward()
        opt.step()


def attack_inside(w: World, loss_at: LossAt) -> None:
    """Adversarial training: the attack passes through the hook, the training step does not."""
    opt = w.optimizer()
    for x, y in w.data:
        w.net.eval()
        adv = x.clone()
        for _ in range(3):
            adv.requires_grad_()
            (g,) = torch.autograd.grad(F.cross_entropy(w.net(adv), y), adv)
            adv = (adv + 0.05 * g.sign()).detach()
        w.net.train()
        opt.zero_grad()
        loss_at(lambda x, y=y: F.cross_entropy(w.net(x), y), adv).backward()
        opt.step()


def attack_by_backward(w: World, loss_at: LossAt) -> None:
    """The same with the attack's gradient taken by ``.backward()``, as many scripts do."""
    opt = w.optimizer()
    for x, y in w.data:
        adv = x.clone().requires_grad_()
        F.cross_entropy(w.net(adv), y).backward()
        adv = (adv + 0.05 * adv.grad.sign()).detach()
        opt.zero_grad()
        loss_at(lambda x, y=y: F.cross_entropy(w.net(x), y), adv).backward()
        opt.step()


class Task(nn.Module):
    """A module that computes its own loss from keyword inputs and returns a dict."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, labels: Tensor, pixel_values: Tensor) -> dict[str, Tensor]:
        logits = self.net(pixel_values)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def loss_inside(w: World, loss_at: LossAt) -> None:
    task = Task(w.net)
    opt = w.optimizer()
    for x, y in w.data:
        opt.zero_grad()
        loss_at(lambda x, y=y: task(labels=y, pixel_values=x)["loss"], x).backward()
        opt.step()


@dataclass
class Result:
    """An output class PyTorch knows nothing about."""

    logits: Tensor
    name: str


def data_class_output(w: World, loss_at: LossAt) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = w.net

        def forward(self, batch: dict[str, Tensor]) -> Result:
            return Result(self.net(batch["image"]), "x")

    net, opt = Net(), w.optimizer()
    for x, y in w.data:
        opt.zero_grad()
        loss_at(lambda x, y=y: F.cross_entropy(net({"label": y, "image": x}).logits, y), x).backward()
        opt.step()


def forward_called_directly(w: World, loss_at: LossAt) -> None:
    opt = w.optimizer()
    for x, y in w.data:
        opt.zero_grad()
        loss_at(lambda x, y=y: F.cross_entropy(w.net.forward(x), y), x).backward()
        opt.step()


def scripted_model(w: World, loss_at: LossAt) -> None:
    net = torch.jit.script(w.net)
    opt = w.optimizer()
    for x, y in w.data:
        opt.zero_grad()
        loss_at(lambda x, y=y: F.cross_entropy(net(x), y), x).backward()
        opt.step()


def two_optimizers(w: World, loss_at: LossAt) -> None:
    body = torch.optim.SGD(w.net[:5].parameters(), lr=0.05)
    head = torch.optim.SGD(w.net[5:].parameters(), lr=0.01)
    for x, y in w.data:
        body.zero_grad()
        head.zero_grad()
        loss_at(lambda x, y=y: F.cross_entropy(w.net(x), y), x).backward()
        body.step()
        head.step()


def frozen_backbone_inside(w: World, loss_at: LossAt) -> None:
    for p in w.net[:5].parameters():
        p.requires_grad_(False)
    w.net[1].eval()
    _simple(F.cross_entropy)(w, loss_at)
    assert not w.net[1].training


def channels_last(w: World, loss_at: LossAt) -> None:
    w.net.to(memory_format=torch.channels_last)
    w.data = [(x.to(memory_format=torch.channels_last), y) for x, y in w.data]
    _simple(F.cross_entropy)(w, loss_at)


LOOPS: dict[str, Loop] = {
    "criterion module": _simple(nn.CrossEntropyLoss()),
    "criterion with buffers": _simple(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 1, 0.5], dtype=torch.float64))),
    "criterion with parameters": weighted_criterion,
    "criterion of one's own": _simple(Focal(2.0)),
    "functional": _simple(F.cross_entropy),
    "functional imported early": _simple(imported_early),
    "nll of log_softmax": _simple(lambda out, y: F.nll_loss(F.log_softmax(out, 1), y)),
    "label smoothing by argument": _simple(lambda out, y: F.cross_entropy(out, y, label_smoothing=0.1)),
    "label smoothing by hand": _simple(smooth_by_hand),
    "soft targets": _simple(soft_targets),
    "mixup as a sum of losses": _simple(mixed_sum),
    "in-place arithmetic": _simple(in_place),
    "in-place after use": _simple(reordered_in_place),
    "rows assigned": _simple(rows_assigned),
    "dropout and noise on the outputs": _simple(with_dropout),
    "accumulation and clipping": accumulation,
    "two batches summed": two_batches_summed,
    "one batch twice": same_batch_twice,
    "teacher and student": distillation,
    "evaluation inside": evaluation_inside,
    "LBFGS closure": lbfgs,
    "autograd.grad": autograd_grad,
    "autograd.backward": autograd_backward,
    "gradient argument": gradient_argument,
    "backbone and head": backbone_and_head,
    "weight penalty": weight_penalty,
    "normalised weights": cosine_head,
    "gradient hooks": watched_gradients,
    "step in backward": step_in_backward,
    "retained graph": retained,
    "checkpointing": checkpointed,
    "attack by autograd.grad": attack_inside,
    "attack by backward": attack_by_backward,
    "loss inside the model": loss_inside,
    "dict in, data class out": data_class_output,
    "forward called directly": forward_called_directly,
    "scripted model": scripted_model,
    "two optimisers": two_optimizers,
    "frozen layers": frozen_backbone_inside,
    "channels_last": channels_last,
}
