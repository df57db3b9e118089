"""The grammar of generated loops: values, the operations that make new ones, losses, and one step of the loop.

Every value is a (6, 8) tensor, so that any operation takes any value. A program is plain data; ``Run`` carries it out,
as a loop under the hook would or, with other tensors in place of x and a tape of what is constant, as the twin does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = (6, 8)


class Reversed(torch.autograd.Function):
    """A custom function, which no hook can follow."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -g


class Skip(nn.Module):
    """Uses its input twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.inner(x)).tanh()


class Keeps(nn.Module):
    """Keeps its features, a list of them and a count as attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.count, self.log = nn.Linear(8, 8), 0, []

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.features = self.inner(x).tanh()
        self.log.append(self.count)
        return self.features * 1.5


class Film(nn.Module):
    """Takes two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return (self.inner(x) * condition).tanh()


class Attends(nn.Module):
    """Takes the same tensor three times."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = [t.reshape(6, 2, 4) for t in (query, key, value)]
        return self.inner(*parts)[0].reshape(SIZE)


class Conditioned(nn.Module):
    """Reads a tensor that the loop set on it, or put into a list of it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.condition, self.box = nn.Linear(8, 8), None, []

    def forward(self, x: Tensor) -> Tensor:
        held = [self.condition, *self.box]
        return (self.inner(x) * next(t for t in held if t is not None)).tanh()


class Tuned(nn.Module):
    """Reads numbers that the loop sets on it, one of them in a list, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.gain, self.rates, self.calls = nn.Linear(8, 8), 1.0, [1.0], 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return (self.inner(x) * self.gain * self.rates[0] * (1 + self.calls % 2)).tanh()


class Gallery(nn.Module):
    """Takes a list of images."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 2, (1, 3), padding=(0, 1))

    def forward(self, images: list[Tensor]) -> Tensor:
        return torch.stack([self.inner(image).mean(0).reshape(8) for image in images])


class Model(nn.Module):
    """All the weights and buffers a generated loop may use."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.normed = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.SiLU())
        self.skip, self.keeps, self.film, self.attends = Skip(), Keeps(), Film(), Attends()
        self.conditioned, self.gallery = Conditioned(), Gallery()
        self.tuned = Tuned()
        self.weight = nn.Parameter(torch.randn(8, 8) / 3)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.criterion = nn.CrossEntropyLoss(weight=torch.linspace(0.5, 1.5, 8))
        self.double()


@dataclass(frozen=True)
class Program:
    """A loop: which data are watched, the operations by name and operands, the losses, and how it steps.

    Attributes:
        operations: Names and operands.
        losses: Likewise.
        watched: Which of the data are watched.
        backward: How the losses are differentiated.
        switched: Whether flags change between forward and backward.
        weight: The hook's.
        steps: Optimiser steps of each model.
        penalty: Whether the squares of the weights are added.
        listed: Whether x comes as a list of images.
        models: How many are trained in turn.
        every: The hook's.
        ramp: The hook's.
        gradient_penalty: Whether there is one, and how it is differentiated.
    """

    operations: tuple[tuple[str, int, int], ...]
    losses: tuple[tuple[str, int, int], ...]
    watched: tuple[bool, bool] = (False, False)
    backward: str = "summed"
    switched: str = "no"
    weight: float = 1.0
    steps: int = 1
    penalty: bool = False
    listed: bool = False
    models: int = 1
    every: int = 1
    ramp: int = 0
    gradient_penalty: str = "no"


@dataclass
class Run:
    """One pass through a program's forward part.

    Attributes:
        model: The weights.
        enter: Maps each new value and its place to the tensor the loop goes on with.
        tape: Constants of an earlier pass, to be used again; None in a first pass, which records them.
        recorded: The constants of this pass.
        given: The plain tensors trainable modules were given, each with the leaf they saw in its place.
        blurred: Whether a mask was taken of a value that is nothing but rounding error.
    """

    model: Model
    enter: Callable[[int, Tensor], Tensor] = lambda place, value: value
    tape: list[Tensor] | None = None
    recorded: list[Tensor] = field(default_factory=list)
    given: list[tuple[Tensor, Tensor]] | None = None
    blurred: bool = False

    def constant(self, make: Callable[[], Tensor]) -> Tensor:
        """Return a value that is data: drawn as often as in the first pass, but the same."""
        value = make()
        self.recorded.append(value.detach().clone())
        return value if self.tape is None else self.tape[len(self.recorded) - 1]

    def call(self, module: nn.Module, *inputs: Tensor) -> Tensor:
        """Call a trainable module; where it is asked for, note which plain tensors it was given."""
        if self.given is None or not any(p.requires_grad for p in module.parameters()):
            return module(*inputs)
        known = {id(t): leaf for t, leaf in self.given}
        for t in inputs:
            if not t.requires_grad and id(t) not in known:
                known[id(t)] = t.detach().requires_grad_()
                self.given.append((t, known[id(t)]))
        return module(*[known.get(id(t), t) for t in inputs])

    def positive(self, a: Tensor) -> Tensor:
        """Return the mask of the positive entries."""
        size = a.detach().abs()
        self.blurred |= bool(((size > 0) & (size < 1e-12)).any())
        return a > 0

    def values(self, program: Program, x: Tensor, m: Tensor) -> list[Tensor]:
        """Carry out the operations."""
        found = [self.enter(0, x), self.enter(1, m)]
        for name, i, j in program.operations:
            made = OPERATIONS[name](self, found[i % len(found)], found[j % len(found)])
            found.append(self.enter(len(found), made))
        return found

    def losses(self, program: Program, x: Tensor, m: Tensor, y: Tensor) -> list[Tensor]:
        """Carry out the program up to its losses."""
        found = self.values(program, x, m)
        made = [LOSSES[name](self, found[-1 - i % 3], found[j % len(found)], y) for name, i, j in program.losses]
        if program.penalty:
            made[0] = made[0] + 0.01 * sum(p.square().sum() for p in self.model.parameters() if p.requires_grad)
        return made


def without_gradients(make: Callable[[], Tensor]) -> Tensor:
    with torch.no_grad():
        return make()


def added_in_place(a: Tensor, b: Tensor) -> Tensor:
    a = a * 1.0
    a += 0.5 * b
    return a


def rows_written(a: Tensor, b: Tensor) -> Tensor:
    a = a * 1.0
    a[0] = b[0]
    return a


def written_into_zeros(a: Tensor) -> Tensor:
    canvas = torch.zeros(SIZE, dtype=a.dtype)
    canvas[:, :] = a
    return canvas


def kept_features(run: Run, a: Tensor) -> Tensor:
    run.call(run.model.keeps, a)
    return run.model.keeps.features


def conditioned(run: Run, a: Tensor, b: Tensor) -> Tensor:
    run.model.conditioned.condition, run.model.conditioned.box = b, []
    return run.call(run.model.conditioned, a)


def conditioned_by_a_list(run: Run, a: Tensor, b: Tensor) -> Tensor:
    run.model.conditioned.condition, run.model.conditioned.box = None, [b]
    return run.call(run.model.conditioned, a)


def tuned(run: Run, a: Tensor, gain: float) -> Tensor:
    """Call a module between two settings of its numbers."""
    module = run.model.tuned
    module.gain, module.rates[0] = gain, 2 - gain
    out = run.call(module, a)
    module.gain, module.rates[0] = 3.0, 3.0
    return out


OPERATIONS: dict[str, Callable[[Run, Tensor, Tensor], Tensor]] = {
    "linear": lambda r, a, b: r.call(r.model.linear, a),
    "normed": lambda r, a, b: r.call(r.model.normed, a),
    "skip": lambda r, a, b: r.call(r.model.skip, a),
    "skip by forward": lambda r, a, b: (a + r.call(r.model.skip.inner, a)).tanh(),
    "keeps": lambda r, a, b: r.call(r.model.keeps, a),
    "kept features": lambda r, a, b: kept_features(r, a),
    "attention": lambda r, a, b: r.call(r.model.attends, a, a, a),
    "film": lambda r, a, b: r.call(r.model.film, a, b),
    "conditioned": lambda r, a, b: conditioned(r, a, r.constant(lambda: b.detach())),
    "conditioned by what moves": conditioned,
    "conditioned by a list": conditioned_by_a_list,
    "tuned": lambda r, a, b: tuned(r, a, 0.7),
    "tuned higher": lambda r, a, b: tuned(r, a, 1.4),
    "gallery": lambda r, a, b: r.model.gallery(list(a.reshape(6, 1, 2, 4))),
    "frozen": lambda r, a, b: r.model.frozen(a),
    "teacher": lambda r, a, b: r.constant(lambda: without_gradients(lambda: r.model.frozen(a).softmax(1))),
    "functional": lambda r, a, b: a @ r.model.weight,
    "tanh": lambda r, a, b: a.tanh(),
    "scaled": lambda r, a, b: a * 0.7 + 0.1,
    "view": lambda r, a, b: a[:, :],
    "flipped": lambda r, a, b: a.flip(1),
    "copy": lambda r, a, b: a.clone(),
    "same": lambda r, a, b: a,
    "residual": lambda r, a, b: a + 0.5 * b,
    "product": lambda r, a, b: a * b.sigmoid(),
    "halves": lambda r, a, b: torch.cat([a[:, :4], b[:, 4:]], 1),
    "masked": lambda r, a, b: a * r.positive(b),
    "pooled": lambda r, a, b: a - a.mean(1, keepdim=True),
    "detached": lambda r, a, b: r.constant(lambda: a.detach()),
    "mixed with detached": lambda r, a, b: a + r.constant(lambda: b.detach()) * 0.3,
    "noise": lambda r, a, b: a + 0.1 * r.constant(lambda: torch.randn_like(a)),
    "no gradients": lambda r, a, b: r.constant(lambda: without_gradients(lambda: a.tanh())),
    "in place": lambda r, a, b: added_in_place(a, b),
    "rows": lambda r, a, b: rows_written(a, b),
    "into zeros": lambda r, a, b: written_into_zeros(a),
    "custom": lambda r, a, b: Reversed.apply(a),
    "spectrum": lambda r, a, b: torch.fft.ifft(torch.fft.fft(a) * 1.1).real,
}


def masked_mean(run: Run, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    return a[run.positive(a)].sum() / (a > 0).sum().clamp_min(1)


def mined(run: Run, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    distance = torch.cdist(a, a) + 10 * torch.eye(6, dtype=a.dtype)
    return (a - a[distance.argmin(1)]).square().sum(1).clamp_min(1e-3).sqrt().mean()


LOSSES: dict[str, Callable[[Run, Tensor, Tensor, Tensor], Tensor]] = {
    "cross entropy": lambda r, a, b, y: F.cross_entropy(a, y),
    "criterion with a buffer": lambda r, a, b, y: r.model.criterion(a, y),
    "label smoothing": lambda r, a, b, y: F.cross_entropy(a, y, label_smoothing=0.1),
    "mean square": lambda r, a, b, y: a.square().mean(),
    "fixed target": lambda r, a, b, y: F.mse_loss(a, r.constant(lambda: b.detach())),
    "target": lambda r, a, b, y: F.mse_loss(a, b),
    "soft targets": lambda r, a, b, y: F.cross_entropy(a, r.constant(lambda: b.detach().softmax(1))),
    "masked mean": masked_mean,
    "mined": mined,
}
