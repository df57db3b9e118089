"""Which argument of a model is x: found where only one can be, asked for where several can."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guard_plugins.curvature import CurvatureHook
from guard_plugins.errors import HookError
from tests.curvature.gaps import H, by_hand, distance, filled, gap, under_hook

G = torch.Generator().manual_seed(0)
IMAGES = torch.randn(6, 2, 4, 4, generator=G, dtype=torch.float64)
OTHER = torch.randn(6, 2, 4, 4, generator=G, dtype=torch.float64)
TIMES = torch.rand(6, generator=G, dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 3, 1, 0])
IDS = torch.randint(0, 9, (6, 5), generator=G)
CE = F.cross_entropy


class Net(nn.Module):
    """Takes images in whatever wrapping ``take`` says."""

    def __init__(self, take: Callable[..., Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body, self.head = nn.Linear(32, 12), nn.Linear(12, 4)
        self.embedding = nn.Embedding(9, 12)
        self.take = take
        self.double()

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        return self.head(self.take(self, *args, **kwargs).tanh())

    def features(self, images: Tensor) -> Tensor:
        return self.body(images.flatten(1))


class Timed(Net):
    """A time step comes before the image."""

    def __init__(self) -> None:
        super().__init__(lambda net, t, x: net.features(x) * t[:, None])

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return super().forward(t, x)


class Words(Net):
    """Integer ids, and a float mask or target."""

    def __init__(self) -> None:
        super().__init__(lambda net, ids, mask: (net.embedding(ids) * mask[..., None]).mean(1))

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        return super().forward(ids, attention_mask)


def crops() -> Net:
    return Net(lambda net, pair: net.features(pair[0]) + net.features(pair[1]))


def batch_of(key: str) -> Callable[[Tensor], dict[str, object]]:
    return lambda x: {"target": TIMES, key: x, "label": Y}


SEVERAL: dict[str, tuple[Callable[[], Net], Callable[[Tensor], tuple], str]] = {
    "a time step first": (Timed, lambda x: (TIMES, x), "x"),
    "a target in the batch": (
        lambda: Net(lambda net, b: net.features(b["image"]) + b["target"][:, None]),
        lambda x: (batch_of("image")(x),),
        "image",
    ),
    "a float mask first": (
        lambda: Net(lambda net, batch: net.features(batch["pixels"] * batch["mask"])),
        lambda x: ({"mask": OTHER, "pixels": x},),
        "pixels",
    ),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_of_several_float_inputs_one_has_to_be_named(name: str) -> None:
    build, call, which = SEVERAL[name]
    net = build()
    with pytest.raises(HookError, match="received several float inputs") as error:
        gap(net, lambda x: CE(net(*call(x)), Y), IMAGES)
    text = str(error.value)
    assert "(6, 2, 4, 4)" in text
    assert "CurvatureHook(input=" in text
    assert "hook.watch(x)" in text
    assert gap(net, lambda x: CE(net(*call(x)), Y), IMAGES, hook=CurvatureHook(h=H, input=which)) <= 1e-9
    assert gap(net, lambda x: CE(net(*call(x)), Y), IMAGES, watch=True) <= 1e-9


def test_two_crops_in_a_list_are_two_inputs() -> None:
    net = crops()
    with pytest.raises(HookError, match="several float inputs") as error:
        gap(net, lambda a, b: CE(net([a, b]), Y), IMAGES, OTHER)
    assert "[0] (6, 2, 4, 4)" in str(error.value)
    ours = under_hook(net, lambda hook: CE(net(hook.watch([IMAGES, OTHER])), Y), CurvatureHook(h=H))
    expected = by_hand(lambda a, b: CE(net([a, b]), Y), [IMAGES, OTHER], list(net.parameters()))
    assert distance(ours, expected) <= 1e-9
    named = under_hook(net, lambda hook: CE(net([IMAGES, OTHER]), Y), CurvatureHook(h=H, input=0))
    assert distance(named, expected) <= 1e-9


def _images_by_hand(net: Net, f: Callable[[Sequence[Tensor]], Tensor]) -> list[Tensor]:
    """Each image of a list is one sample: one z per image."""
    leaves = [image.clone().requires_grad_() for image in IMAGES]
    loss = f(leaves)
    grads = torch.autograd.grad(loss, leaves, retain_graph=True)
    moved = [(x + H * g / g.norm()).detach() for x, g in zip(leaves, grads, strict=True)]
    weights = list(net.parameters())
    return filled(torch.autograd.grad(loss + (f(moved) - loss).abs(), weights, allow_unused=True), weights)


LISTS: dict[str, Callable[[Net], Callable[[Sequence[Tensor]], Tensor]]] = {
    "positional": lambda net: lambda images: CE(net(images), Y),
    "keyword": lambda net: lambda images: CE(net(images=images), Y),
    "with a list of targets": lambda net: lambda images: CE(net(images, list(Y)), Y),
}


@pytest.mark.parametrize("name", LISTS)
def test_in_a_list_of_images_each_is_a_sample(name: str) -> None:
    net = Net(lambda net, images, targets=None: net.features(torch.stack(list(images))))
    loop = LISTS[name](net)
    with pytest.raises(HookError, match="several float inputs"):
        under_hook(net, lambda hook: loop([image.clone() for image in IMAGES]), CurvatureHook(h=H))
    expected = _images_by_hand(net, loop)
    for options in ({}, {"unbatched": True}):
        ours = under_hook(
            net,
            lambda hook, options=options: loop(hook.watch([i.clone() for i in IMAGES], **options)),
            CurvatureHook(h=H),
        )
        assert distance(ours, expected) <= 1e-9
    explicit = CurvatureHook(h=H).loss(net, [i.clone() for i in IMAGES], lambda out: CE(out, Y))
    assert distance(filled(torch.autograd.grad(explicit, list(net.parameters()), allow_unused=True),
                           list(net.parameters())), expected) <= 1e-9  # fmt: skip


def test_one_image_in_a_list_is_asked_about() -> None:
    net = Net(lambda net, images: net.features(torch.stack(list(images))))
    with pytest.raises(HookError, match="received a list of tensors as x") as error:
        under_hook(net, lambda hook: CE(net([IMAGES[0]]), Y[:1]), CurvatureHook(h=H))
    assert "unbatched=True" in str(error.value)


def test_a_batch_list_with_labels_is_no_list_of_images() -> None:
    net = Net(lambda net, batch: net.features(batch[0]))
    assert gap(net, lambda x: CE(net([x, Y]), Y), IMAGES) <= 1e-9


DOUBTFUL = {
    "mask of the shape of the ids": lambda net: net(IDS, torch.ones(6, 5, dtype=torch.float64)),
    "mask by keyword": lambda net: net(IDS, attention_mask=torch.ones(6, 5, dtype=torch.float64)),
    "mask that broadcasts": lambda net: net(IDS, torch.ones(6, 1, dtype=torch.float64)),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_float_mask_of_integer_ids_is_not_taken_for_x(name: str) -> None:
    net = Words()
    with pytest.raises(HookError, match="may be a mask or a target rather than x") as error:
        under_hook(net, lambda hook: CE(DOUBTFUL[name](net), Y), CurvatureHook(h=H))
    assert "attention_mask" in str(error.value)
    assert "input='attention_mask'" in str(error.value)


def test_float_targets_of_integer_ids_are_not_taken_for_x() -> None:
    class Regresses(Words):
        def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
            return F.mse_loss(self.head(self.embedding(ids).mean(1)), labels)

    net = Regresses()
    for labels in (torch.rand(6, 4, dtype=torch.float64), torch.rand(6, 1, dtype=torch.float64)):
        with pytest.raises(HookError, match="may be a mask or a target rather than x"):
            under_hook(net, lambda hook, labels=labels: net(IDS, labels), CurvatureHook(h=H))


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_named_model_is_found_inside_others(depth: int) -> None:
    class Outer(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner
            torch.manual_seed(5)
            self.scale = nn.Parameter(torch.rand(4).double())

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x * 2) * self.scale

    inner = net = Net(lambda net, x: net.features(x))
    for _ in range(depth):
        net = Outer(net)
    ours = under_hook(net, lambda hook: CE(net(IMAGES), Y), CurvatureHook(h=H, model=inner))

    def loop(z: Tensor) -> Tensor:
        out = inner(z)
        for outer in [m for m in net.modules() if isinstance(m, Outer)][::-1]:
            out = out * outer.scale
        return CE(out, Y)

    assert distance(ours, by_hand(loop, [IMAGES * 2**depth], list(net.parameters()))) <= 1e-9


def test_labels_beside_an_image_are_no_doubt() -> None:
    class Task(Net):
        def forward(self, labels: Tensor, pixel_values: Tensor) -> Tensor:
            return CE(super().forward(pixel_values), labels)

    net = Task(lambda net, x: net.features(x))
    assert gap(net, lambda x: net(Y, x), IMAGES) <= 1e-9
    assert gap(net, lambda x: net(labels=Y, pixel_values=x), IMAGES) <= 1e-9


def test_embeddings_can_be_watched() -> None:
    net = Net(lambda net, e: e.mean(1))

    def run(hook: CurvatureHook) -> Tensor:
        return CE(net(hook.watch(net.embedding(IDS).detach())), Y)

    ours = under_hook(net, run, CurvatureHook(h=H))
    e = net.embedding(IDS).detach()
    assert distance(ours, by_hand(lambda e: CE(net(e), Y), [e], list(net.parameters()))) <= 1e-9


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: IMAGES.flatten(1).to_sparse(), "a sparse_coo tensor"),
        (lambda: nn.utils.rnn.pack_padded_sequence(torch.ones(3, 4, 2).double(), torch.tensor([4, 3, 2]), True),
         "a PackedSequence"),
        (lambda: torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)]), "a nested tensor"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_inputs_that_cannot_be_moved(make: Callable[[], object], word: str) -> None:
    net = Net(lambda net, x: torch.zeros(6, 12).double() + net.body.weight.sum())
    with pytest.raises(HookError, match="in a form that cannot be moved") as error:
        under_hook(net, lambda hook: CE(net(make()), Y), CurvatureHook(h=H))
    assert word in str(error.value)


def test_a_packed_sequence_made_from_a_watched_tensor() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.rnn, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 4)
            self.double()

    net, x = Recurrent(), torch.randn(6, 5, 3, generator=G, dtype=torch.float64)
    lengths = torch.tensor([5, 5, 4, 3, 2, 1])

    def loop(x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return CE(net.head(net.rnn(packed)[1][0]), Y)

    assert gap(net, loop, x, watch=True) <= 1e-9


def test_inputs_made_under_inference_mode() -> None:
    net = Net(lambda net, x: net.features(x))
    with torch.inference_mode():
        x = IMAGES * 1.0
    with CurvatureHook(h=H):
        CE(net(x), Y).backward()
    ours = filled([p.grad for p in net.parameters()], list(net.parameters()))
    assert distance(ours, by_hand(lambda x: CE(net(x), Y), [IMAGES], list(net.parameters()))) <= 1e-9


def test_an_empty_batch() -> None:
    net = Net(lambda net, x: net.features(x))
    for options in ({}, {"weight": 2.0}, {"penalty": "gradient"}):
        with CurvatureHook(h=H, **options) as hook:
            net(IMAGES[:0]).sum().backward()
        assert hook.summary().backwards == 1


def test_an_input_of_an_unknown_class_is_named() -> None:
    class Batch:
        def __init__(self, x: Tensor) -> None:
            self.x = x

    net = Net(lambda net, batch: net.features(batch.x))
    opt = torch.optim.SGD(net.parameters(), 0.1)

    def step() -> None:
        with CurvatureHook(h=H):
            CE(net(Batch(IMAGES)), Y).backward()
            opt.step()

    with pytest.raises(HookError, match="never saw") as error:
        step()
    assert "Batch is not looked into" in str(error.value)
