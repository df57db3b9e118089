"""Loops of more libraries, unmodified under the hook, against the loop they amount to with the objective by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.gaps import H
from tests.curvature.worlds import Twin, assert_same, batches, world

pytestmark = pytest.mark.slow

WEIGHTS = pytest.mark.parametrize("weight", [1.0, 2.0])
RATE = 0.05


def _pairs(dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    return [(x.to(dtype), y) for x, y in batches(4)]


def _loader(dtype: torch.dtype = torch.float64) -> DataLoader:
    x, y = (torch.cat(part) for part in zip(*_pairs(dtype), strict=True))
    return DataLoader(TensorDataset(x, y), batch_size=8)


def _net() -> nn.Module:
    return world().net.double()


def _by_hand(
    net: nn.Module,
    loss: Callable[[Any, Tensor], Tensor],
    *,
    weight: float,
    epochs: int = 1,
    weights: Iterable[Tensor] | None = None,
) -> nn.Module:
    """Train as the libraries below do: batch by batch, plain SGD."""
    objective, opt = Twin(net, h=H, weight=weight), torch.optim.SGD(weights or net.parameters(), RATE)
    for _ in range(epochs):
        for x, y in _pairs(next(net.parameters()).dtype):
            opt.zero_grad()
            objective(lambda x, y=y: loss(net(x), y), x).backward()
            opt.step()
    return net


@WEIGHTS
def test_ignite(weight: float) -> None:
    engine = pytest.importorskip("ignite.engine")
    ours, start = _net(), copy.deepcopy(_net().state_dict())
    opt = torch.optim.SGD(ours.parameters(), RATE)
    trainer = engine.create_supervised_trainer(ours, opt, nn.CrossEntropyLoss())
    evaluator = engine.create_supervised_evaluator(ours)
    trainer.add_event_handler(engine.Events.EPOCH_COMPLETED, lambda _: evaluator.run(_loader()))
    with CurvatureHook(h=H, weight=weight) as hook:
        trainer.run(_loader(), max_epochs=2)
    assert hook.summary().regularised_steps == 8
    twin = _by_hand(_net().train(), F.cross_entropy, weight=weight, epochs=2)
    assert_same(ours, twin, start, tolerance=1e-9)


@WEIGHTS
def test_skorch(weight: float) -> None:
    skorch = pytest.importorskip("skorch")
    net = _net()
    start = copy.deepcopy(net.state_dict())
    classifier = skorch.NeuralNetClassifier(
        net, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.SGD, lr=RATE, max_epochs=2, batch_size=8,
        train_split=None, iterator_train__shuffle=False, verbose=0,
    )  # fmt: skip
    x, y = (torch.cat(part) for part in zip(*_pairs(), strict=True))
    with CurvatureHook(h=H, weight=weight) as hook:
        classifier.fit(x.numpy(), y.numpy())
        assert classifier.predict(x.numpy()).shape == (32,)
    assert hook.summary().regularised_steps == 8
    twin = _by_hand(_net(), F.cross_entropy, weight=weight, epochs=2)
    assert_same(classifier.module_, twin, start, tolerance=1e-9)


@WEIGHTS
@pytest.mark.parametrize("name", ["TripletMarginLoss", "ArcFaceLoss", "MultiSimilarityLoss", "NTXentLoss"])
def test_pytorch_metric_learning(name: str, weight: float) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    miners = pytest.importorskip("pytorch_metric_learning.miners")

    def build() -> tuple[nn.Module, Any, Any]:
        net = _net()
        torch.manual_seed(1)
        own = {"num_classes": 4, "embedding_size": 4} if name == "ArcFaceLoss" else {}
        miner = miners.MultiSimilarityMiner() if name == "TripletMarginLoss" else None
        return net, getattr(losses, name)(**own).double(), miner

    def objective(loss: Any, miner: Any) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda out, y: loss(out, y, miner(out, y)) if miner is not None else loss(out, y)

    class Kept:
        """The miners work without gradients, so what they choose is data: the same at x and at x + z."""

        def __init__(self, miner: Any) -> None:
            self.miner, self.chosen = miner, []

        def __call__(self, out: Tensor, y: Tensor) -> Any:
            if self.chosen:
                return self.chosen.pop()
            self.chosen.append(self.miner(out, y))
            return self.chosen[0]

    ours, loss, miner = build()
    start = copy.deepcopy(ours.state_dict())
    opt, of = torch.optim.SGD([*ours.parameters(), *loss.parameters()], RATE), objective(loss, miner)
    with CurvatureHook(h=H, weight=weight) as hook:
        for x, y in _pairs():
            opt.zero_grad()
            of(ours(x), y).backward()
            opt.step()
    assert hook.summary().regularised_steps == 4
    twin, loss, miner = build()
    miner = None if miner is None else Kept(miner)
    _by_hand(twin, objective(loss, miner), weight=weight, weights=[*twin.parameters(), *loss.parameters()])
    assert_same(ours, twin, start, tolerance=1e-7)


@WEIGHTS
@pytest.mark.filterwarnings("ignore")
def test_fastai(weight: float) -> None:
    fastai = pytest.importorskip("fastai.vision.all")
    from functools import partial

    # its Recorder works in float32 only, so rounding bounds what can be seen
    ours, start = _net().float(), copy.deepcopy(_net().float().state_dict())
    loaders = fastai.DataLoaders(
        fastai.DataLoader(_loader(torch.float32).dataset, bs=8), fastai.DataLoader(_loader(torch.float32).dataset, bs=8)
    )
    learner = fastai.Learner(
        loaders, ours, loss_func=nn.CrossEntropyLoss(), opt_func=partial(fastai.OptimWrapper, opt=torch.optim.SGD),
        metrics=fastai.accuracy,
    )  # fmt: skip
    with learner.no_bar(), learner.no_logging(), CurvatureHook(h=H, weight=weight) as hook:
        learner.fit(2, RATE)
    assert hook.summary().regularised_steps == 8
    twin = _by_hand(_net().float(), F.cross_entropy, weight=weight, epochs=2)
    assert_same(ours, twin, start, tolerance=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_fastai_tensors_of_its_own_class() -> None:
    fastai = pytest.importorskip("fastai.vision.all")
    ours, twin = _net().float(), _net().float()
    start = copy.deepcopy(ours.state_dict())
    opt, loss = torch.optim.SGD(ours.parameters(), RATE), fastai.CrossEntropyLossFlat()
    with CurvatureHook(h=H) as hook:
        for x, y in _pairs(torch.float32):
            opt.zero_grad()
            loss(ours(fastai.TensorImage(x)), fastai.TensorCategory(y)).backward()
            opt.step()
    assert hook.summary().regularised_steps == 4
    _by_hand(twin, F.cross_entropy, weight=1.0)
    assert_same(ours, twin, start, tolerance=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_opacus_is_refused() -> None:
    """Its per-sample gradients come from hooks on the one backward pass that it clips; no second pass may join it."""
    opacus = pytest.importorskip("opacus")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.SiLU(), nn.Linear(8, 4)).double()
    opt = torch.optim.SGD(net.parameters(), RATE)
    model, opt, loader = opacus.PrivacyEngine().make_private(
        module=net, optimizer=opt, data_loader=_loader(), noise_multiplier=1.0, max_grad_norm=1.0
    )
    before = [p.clone() for p in net.parameters()]

    def step() -> None:
        with CurvatureHook(h=H):
            for x, y in loader:
                F.cross_entropy(model(x), y).backward()
                opt.step()

    with pytest.raises(HookError, match="GradSampleModule"):
        step()
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@WEIGHTS
def test_a_detection_model_of_torchvision(weight: float) -> None:
    """A list of images of different sizes, a list of target dicts, a dict of losses."""
    detection = pytest.importorskip("torchvision.models.detection")

    def build() -> nn.Module:
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Conv2d(3, 32, 3, stride=4, padding=1), nn.SiLU())
        backbone.out_channels = 32
        anchors = detection.anchor_utils.AnchorGenerator(((8,),), ((1.0,),))
        return detection.FCOS(backbone, 3, min_size=32, max_size=48, anchor_generator=anchors).double()

    g = torch.Generator().manual_seed(1)
    images = [torch.rand(3, 32, 32 + 8 * (i % 2), generator=g, dtype=torch.float64) for i in range(4)]
    boxes = torch.tensor([[4.0, 4.0, 20.0, 24.0], [8.0, 2.0, 30.0, 16.0]], dtype=torch.float64)
    targets = [{"boxes": boxes, "labels": torch.tensor([1, 2])} for _ in images]

    def loss(net: nn.Module, images: list[Tensor]) -> Tensor:
        return sum(net(images, targets).values())

    ours, twin = build(), build()
    start = copy.deepcopy(ours.state_dict())
    opt = torch.optim.SGD(ours.parameters(), RATE)
    with pytest.raises(HookError, match="several float inputs"), CurvatureHook(h=H):
        loss(ours, images)
    with CurvatureHook(h=H, weight=weight, input="images") as hook:
        for _ in range(2):
            opt.zero_grad()
            loss(ours, images).backward()
            opt.step()
    assert hook.summary().regularised_steps == 2
    opt = torch.optim.SGD(twin.parameters(), RATE)
    for _ in range(2):
        opt.zero_grad()
        leaves = [image.clone().requires_grad_() for image in images]
        here = loss(twin, leaves)
        grads = torch.autograd.grad(here, leaves, retain_graph=True)
        there = loss(twin, [(x + H * g / g.norm()).detach() for x, g in zip(leaves, grads, strict=True)])
        (here + weight * (there - here).abs()).backward()
        opt.step()
    assert_same(ours, twin, start, tolerance=1e-9)


@WEIGHTS
def test_a_recurrent_loop(weight: float) -> None:
    """Sequences in an LSTM, the state carried on and detached from batch to batch."""

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 4)

        def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
            out, state = self.lstm(x, state)
            return self.head(out[:, -1]), state

    def train(net: nn.Module, loss_at: Callable, opt: torch.optim.Optimizer) -> None:
        state = None
        for x, y in _pairs():
            kept = []

            def loss(x: Tensor, y: Tensor = y, kept: list = kept, state: Any = state) -> Tensor:
                out, after = net(x.squeeze(1), state)
                kept.append(after)
                return F.cross_entropy(out, y)

            opt.zero_grad()
            loss_at(loss, x).backward()
            state = tuple(part.detach() for part in kept[0])
            opt.step()

    nets = []
    for _ in range(2):
        torch.manual_seed(0)
        nets.append(Tagger().double())
    ours, twin = nets
    start = copy.deepcopy(ours.state_dict())
    with CurvatureHook(h=H, weight=weight, input="x") as hook:
        train(ours, lambda f, x: f(x), torch.optim.SGD(ours.parameters(), RATE))
    assert hook.summary().regularised_steps == 4
    train(twin, Twin(twin, h=H, weight=weight), torch.optim.SGD(twin.parameters(), RATE))
    assert_same(ours, twin, start, tolerance=1e-9)
