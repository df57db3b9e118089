"""Mistakes in writing the hook down: each gets one message that names what was seen and the line to write."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import ConfigError, HookError

NET = nn.Linear(3, 2)
X, Y = torch.rand(4, 3), torch.tensor([0, 1, 1, 0])


def train() -> None: ...


MISTAKES: dict[str, tuple[Callable[[], object], list[str]]] = {
    "no parentheses": (lambda: CurvatureHook(train), ["CurvatureHook(train)", "@CurvatureHook(h=...)"]),
    "a number without a name": (lambda: CurvatureHook(0.5), ["write CurvatureHook(h=0.5)"]),
    "h as a string": (lambda: CurvatureHook(h="0.5"), ["h must be a positive number", "h='0.5', a str"]),
    "h as a flag": (lambda: CurvatureHook(h=True), ["h must be a positive number", "a bool"]),
    "weight as a string": (lambda: CurvatureHook(h=1, weight="1"), ["weight must be a number"]),
    "the model wrapped": (lambda: CurvatureHook(h=1)(NET), ["hook(a Linear)", "`with hook:`"]),
    "a result wrapped": (lambda: CurvatureHook(h=1)(3), ["hook(a int)"]),
    "above classmethod": (lambda: CurvatureHook(h=1)(classmethod(train)), ["write @classmethod above @hook"]),
    "above staticmethod": (lambda: CurvatureHook(h=1)(staticmethod(train)), ["write @staticmethod above @hook"]),
    "labels in place of a loss": (
        lambda: CurvatureHook(h=1).loss(NET, X, Y),
        ["needs a function as loss_fn", "loss_fn is a Tensor", "lambda out: criterion(out, y)"],
    ),
    "outputs in place of a model": (
        lambda: CurvatureHook(h=1).loss(NET(X), X, F.cross_entropy),
        ["needs a function as model", "model is a Tensor"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_name_the_line_to_write(name: str) -> None:
    act, words = MISTAKES[name]
    with pytest.raises(ConfigError) as error:
        act()
    for word in words:
        assert word in str(error.value)


def test_methods_in_the_right_order() -> None:
    hook = CurvatureHook(h=0.1)

    class Trainer:
        @classmethod
        @hook
        def train(cls) -> str:
            F.cross_entropy(NET(X), Y).backward()
            return cls.__name__

    assert Trainer.train() == "Trainer"
    assert hook.summary().backwards == 1


def test_an_infinite_gradient_is_warned_of() -> None:
    net = nn.Linear(3, 2, bias=False)
    nn.init.zeros_(net.weight)
    with pytest.warns(RuntimeWarning, match="not finite"), CurvatureHook(h=0.1):
        net(X).norm(dim=1).sqrt().mean().backward()


@pytest.mark.parametrize("h", [0.1, 1e9])
def test_a_leap_of_the_loss_is_warned_of(h: float, recwarn: pytest.WarningsRecorder) -> None:
    with CurvatureHook(h=h):
        F.cross_entropy(NET(X), Y).backward()
    leaps = [w for w in recwarn if "the loss leaps" in str(w.message)]
    assert len(leaps) == (h > 1)


@pytest.mark.parametrize(("h_rms", "warned"), [(16, True), (1.0, True), (16 / 255, False)])
@pytest.mark.parametrize("ramp", [0, 5])
def test_pixels_in_the_wrong_unit_are_warned_of_once(
    h_rms: float, warned: bool, ramp: int, recwarn: pytest.WarningsRecorder
) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    opt = torch.optim.SGD(net.parameters(), 0.01)
    with CurvatureHook(h_rms=h_rms, ramp=ramp):
        for _ in range(12):
            opt.zero_grad()
            F.cross_entropy(net(images), torch.arange(12) % 4).backward()
            opt.step()
    told = [w for w in recwarn if "h is too long for these data" in str(w.message)]
    assert len(told) == warned
    if told:
        assert "write h_rms=16/255, not 16" in str(told[0].message)


@pytest.mark.parametrize(("h_rms", "warned"), [(16, True), (16 / 255, False)])
@pytest.mark.parametrize("penalty", ["loss", "gradient"])
def test_the_explicit_form_warns_of_them_too(
    h_rms: float, warned: bool, penalty: Any, recwarn: pytest.WarningsRecorder
) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    hook = CurvatureHook(h_rms=h_rms, penalty=penalty)
    for _ in range(2):
        hook.loss(net, images, lambda logits: F.cross_entropy(logits, torch.arange(12) % 4)).backward()
    assert len([w for w in recwarn if "h is too long for these data" in str(w.message)]) == warned


@pytest.mark.parametrize("x", [[torch.zeros(3)], [torch.zeros(3), torch.ones(3)], torch.zeros(2, 3)])
def test_the_explicit_form_compares_no_few_or_single_samples(x: Any, recwarn: pytest.WarningsRecorder) -> None:
    def model(given: Any) -> Tensor:
        return torch.stack(list(given)).sum()

    CurvatureHook(h=100.0).loss(model, x, lambda value: value.square())
    assert not [w for w in recwarn if "too long for these" in str(w.message)]


@pytest.mark.parametrize("shape", [(1, 3), (4, 3), (12, 3)])
def test_few_or_equal_samples_have_no_distance_to_compare_with(
    shape: tuple[int, int], recwarn: pytest.WarningsRecorder
) -> None:
    near = torch.rand(shape) * 1e-3 if len(torch.empty(shape)) < 8 else torch.rand(1, 3).expand(shape)
    with CurvatureHook(h=1.0):
        F.cross_entropy(NET(near.clone()), torch.arange(len(near)) % 2).backward()
    assert not [w for w in recwarn if "too long for these" in str(w.message)]


def test_a_batch_of_numbers_is_compared_too() -> None:
    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.ones(()))

        def forward(self, t: Tensor) -> Tensor:
            return (self.slope * t).sin()

    with pytest.warns(RuntimeWarning, match="h is too long"), CurvatureHook(h=50.0):
        Line()(torch.rand(12)).square().mean().backward()


@pytest.mark.parametrize("way", [{}, {"weight": 0.5}, {"penalty": "gradient"}])
@pytest.mark.parametrize("returned", ["float", "none", "detached", "constant"])
def test_an_explicit_loss_without_a_gradient_is_explained(returned: str, way: dict[str, Any]) -> None:
    def loss_fn(out: Tensor) -> Any:
        given: dict[str, Any] = {"float": 3.0, "none": None, "detached": out.detach().mean()}
        return given.get(returned, torch.tensor(1.0))

    with pytest.raises(ConfigError, match="needs a loss that can be differentiated") as caught:
        CurvatureHook(h=0.5, **way).loss(nn.Linear(5, 3), torch.randn(4, 5), loss_fn)
    kind = {"float": "a float", "none": "a NoneType"}.get(returned, "a Tensor without a graph")
    assert f"loss_fn returned {kind}" in str(caught.value)


@pytest.mark.parametrize("x", [None, torch.zeros(3, dtype=torch.long), {"ids": torch.ones(2, dtype=torch.long)}])
def test_an_explicit_x_that_cannot_be_moved_is_named_as_that_of_hook_loss(x: Any) -> None:
    with pytest.raises(HookError, match=r"hook\.loss was given something that cannot be x") as caught:
        CurvatureHook(h=0.5).loss(nn.Embedding(3, 3), x, lambda out: out.mean())
    assert "pass their embeddings" in str(caught.value)


@pytest.mark.parametrize("batch", [{"x": torch.zeros(4, 5), "y": torch.zeros(4)}, torch.zeros(4, 5), (1, 2), "xy"])
def test_batches_that_are_no_pairs_are_explained(batch: Any) -> None:
    with pytest.raises(ConfigError, match="suggest_h needs batches of float inputs") as caught:
        CurvatureHook.suggest_h(nn.Linear(5, 3), [batch])
    assert f"a batch that is a {type(batch).__name__}" in str(caught.value)


# --- copies of a hook ----------------------------------------------------------------------------------------------


class HoldsItsHook(nn.Module):
    """As a LightningModule does that is copied, with all it holds, for an average of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(5, 3).double()
        self.hook = CurvatureHook(h=0.5, every=2, ramp=3, model=self.net)


def _train_held(module: HoldsItsHook, steps: int) -> None:
    optimiser, g = torch.optim.SGD(module.parameters(), 0.1), torch.Generator().manual_seed(1)
    with module.hook:
        for _ in range(steps):
            optimiser.zero_grad()
            module.net(torch.randn(4, 5, generator=g, dtype=torch.float64)).square().mean().backward()
            optimiser.step()


def _pickled(module: HoldsItsHook) -> HoldsItsHook:
    copied: HoldsItsHook = pickle.loads(pickle.dumps(module))
    return copied


@pytest.mark.parametrize("copied", [copy.deepcopy, _pickled])
def test_a_copy_of_a_hook_has_its_settings_and_its_counters(copied: Callable[[HoldsItsHook], HoldsItsHook]) -> None:
    torch.manual_seed(0)
    module = HoldsItsHook()
    with module.hook:
        _train_held(module, 4)
        twin = copied(module)  # while it is active
    assert twin.hook.options.model is twin.net
    assert repr(twin.hook) == repr(module.hook)
    assert twin.hook.state_dict() == module.hook.state_dict()
    for one in (module, twin):
        _train_held(one, 4)
    assert torch.equal(twin.net.weight, module.net.weight)
    assert twin.hook.summary().regularised_steps == module.hook.summary().regularised_steps == 4
    with pytest.raises(HookError, match="never reached"), copied(module).hook:
        pass
