"""Checkpoints as other code bases save them: each gives the logits of the network it came from, or a clear message."""

from __future__ import annotations

import argparse
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from guard_plugins.artifacts.teacher import TeacherCard
from guard_plugins.artifacts.weights.classes import read_order
from guard_plugins.artifacts.weights.load import load_any_teacher
from guard_plugins.errors import ConfigError, GuardError
from guard_plugins.host import PluginHost
from guard_plugins.networks.base import NetworkRequest
from guard_plugins.networks.normalised import Normalised
from tests.artifacts.weights.sources import CLASSES, CifarResNet18, FlatConvNet, Normalise, shaken

SHAPE = (3, 32, 32)
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
NETWORKS = PluginHost(only=[]).networks

StateDict = dict[str, Tensor]


def fresh(network: str) -> Normalised:
    built = NETWORKS[network]().build(NetworkRequest(image_shape=SHAPE, classes=CLASSES))
    return Normalised(built, mean=MEAN, std=STD)


def loaded(path: Path, network: str, **options: Any) -> tuple[Normalised, str]:
    card = TeacherCard(
        network=network, activation="relu", image_shape=SHAPE, classes=tuple("abcdefghij"), guard={"h": 1.0}
    )
    model = fresh(network)
    found = load_any_teacher(path, model, card, networks=NETWORKS, **options)
    assert (found.card.guard, found.card.training) == (None, "unknown")
    return model.eval(), found.said


def logits(network: nn.Module, *, normalised: bool = True) -> Tensor:
    images = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    model = Normalised(network, mean=MEAN, std=STD) if normalised else network
    with torch.no_grad():
        return model.eval()(images)


def saved(path: Path, content: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: value.clone() for name, value in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def prefixed(prefix: str, state: StateDict) -> StateDict:
    return {prefix + name: value for name, value in state.items()}


WRAPPED: dict[str, Callable[[StateDict], Any]] = {
    "alone": lambda sd: sd,
    "torchvision's reference and GUARD's script": lambda sd: {
        "model": sd, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}]}, "epoch": 3,
        "args": argparse.Namespace(lr=0.1, model="resnet18"),
    },
    "pytorch-cifar": lambda sd: {
        "net": prefixed("module.", sd), "acc": np.float64(95.2), "best": np.float32(1), "epoch": np.int64(3)
    },
    "data parallel and compiled": lambda sd: prefixed("module._orig_mod.", sd),
    "Lightning": lambda sd: {
        "state_dict": {**prefixed("model.", sd), "loss.weight": torch.ones(3)}, "epoch": 1, "global_step": 9,
        "hyper_parameters": {"lr": 0.1}, "callbacks": {"best": {"score": torch.tensor(0.5)}},
    },
    "Lightning, attribute net": lambda sd: {"state_dict": OrderedDict(prefixed("net.", sd))},
    "an attribute nobody knows": lambda sd: prefixed("wrapped.inner.", sd),
    "averaged weights alone": lambda sd: {"model_ema": sd},
    "averaged beside the model's": lambda sd: {"model": sd, "model_ema": {n: v + 1 for n, v in sd.items()}},
    "timm": lambda sd: {"arch": "resnet18", "state_dict": sd, "state_dict_ema": {n: v + 1 for n, v in sd.items()}},
    "params": lambda sd: {"params": sd},
    "SWA": lambda sd: {"n_averaged": torch.tensor(5), **prefixed("module.", sd)},
    "a key nobody knows": lambda sd: {"epoch": 2, "student": sd},
    "before batch counters": lambda sd: {n: v for n, v in sd.items() if not n.endswith("num_batches_tracked")},
    "with numbers among the names": lambda sd: {**sd, "epoch": 3, "note": "best"},
    "twofold": lambda sd: {"state": {"model": sd}},
    "flat, averaged beside": lambda sd: {
        **prefixed("model.", sd), **prefixed("ema_model.", {n: v + 1 for n, v in sd.items()})
    },
}  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_whatever_it_is_wrapped_in_the_logits_are_the_source_s(
    wrap: Callable[[StateDict], Any], tmp_path: Path
) -> None:
    source = shaken(fresh("convnet3-bn").network)
    model, said = loaded(saved(tmp_path / "x.pth", wrap(source.state_dict())), "convnet3-bn")
    assert torch.equal(model(torch.ones(1, *SHAPE)), Normalised(source, mean=MEAN, std=STD)(torch.ones(1, *SHAPE)))
    assert torch.equal(logits(model.network), logits(source))
    assert said == "" or said.startswith(str(tmp_path / "x.pth"))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_prefixes_in_safetensors(prefix: str, tmp_path: Path) -> None:
    source = shaken(fresh("convnet3").network)
    path = saved(tmp_path / "x.safetensors", prefixed(prefix, source.state_dict()))
    model, said = loaded(path, "convnet3")
    assert torch.equal(logits(model.network), logits(source))
    assert f"dropped the prefix {prefix!r}" in said


@pytest.mark.parametrize(
    ("source", "network", "whose"),
    [
        (FlatConvNet(), "convnet3", "the ConvNet of dataset condensation"),
        (FlatConvNet(depth=4), "convnet4", "the ConvNet of dataset condensation"),
        (CifarResNet18(), "resnet18", "pytorch-cifar's ResNets"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.", "module.model."])
def test_names_of_other_code_bases(source: nn.Module, network: str, whose: str, prefix: str, tmp_path: Path) -> None:
    shaken(source)
    path = saved(tmp_path / "x.pt", {"net": prefixed(prefix, source.state_dict())})
    model, said = loaded(path, network)
    assert torch.allclose(logits(model.network), logits(source), rtol=1e-5, atol=1e-5)
    assert f"read the names as those of {whose}" in said


@pytest.mark.parametrize("name", ["fc.1", "classifier"])
def test_resnets_whose_last_layer_was_replaced(name: str, tmp_path: Path) -> None:
    source = shaken(fresh("resnet18").network)
    state = {n.replace("fc.", f"{name}."): v for n, v in source.state_dict().items()}
    model, said = loaded(saved(tmp_path / "x.pt", state), "resnet18")
    assert torch.equal(logits(model.network), logits(source))
    assert "a ResNet with another last layer" in said


def test_two_last_layers_are_not_one(tmp_path: Path) -> None:
    state = fresh("resnet18").network.state_dict()
    hidden = {"fc.0.weight": torch.ones(512, 512), "fc.0.bias": torch.ones(512)}
    state = {**hidden, **{n.replace("fc.", "fc.2."): v for n, v in state.items()}}
    assert "fc.0.weight" in refusal(saved(tmp_path / "x.pt", state), "resnet18").seen


def hugging_face(name: str) -> str:
    """Turn a name of torchvision's ResNets into that of transformers' ResNetForImageClassification."""
    part = {"conv": "convolution", "bn": "normalization"}
    name = re.sub(r"^(conv|bn)1\.", lambda f: f"resnet.embedder.embedder.{part[f[1]]}.", name)
    name = re.sub(r"\.(conv|bn)(\d)\.", lambda f: f".layer.{int(f[2]) - 1}.{part[f[1]]}.", name)
    name = re.sub(r"^layer(\d)\.(\d)", lambda f: f"resnet.encoder.stages.{int(f[1]) - 1}.layers.{f[2]}", name)
    name = re.sub(r"downsample\.(\d)", lambda f: f"shortcut.{list(part.values())[int(f[1])]}", name)
    return name.replace("fc.", "classifier.1.")


@pytest.mark.parametrize("network", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_resnets_of_transformers(network: str, tmp_path: Path) -> None:
    source = shaken(fresh(network).network)
    state = {hugging_face(name): value for name, value in source.state_dict().items()}
    assert "resnet.encoder.stages.1.layers.0.shortcut.convolution.weight" in state
    model, said = loaded(saved(tmp_path / "model.safetensors", state), network)
    assert torch.equal(logits(model.network), logits(source))
    assert "transformers' ResNets" in said


def robustness(state: StateDict) -> StateDict:
    """Names as the robustness library saves an attacked model: the network twice, with its normalisation."""
    both = {**prefixed("module.model.", state), **prefixed("module.attacker.model.", state)}
    for holder in ("module.normalizer.", "module.attacker.normalize."):
        both[f"{holder}new_mean"] = torch.tensor(MEAN2).view(3, 1, 1)
        both[f"{holder}new_std"] = torch.tensor(STD2).view(3, 1, 1)
    return both


MEAN2, STD2 = (0.48, 0.45, 0.4), (0.2, 0.25, 0.3)
NORMALISED: dict[str, Callable[[nn.Module], tuple[StateDict, nn.Module]]] = {
    "RobustBench": lambda net: (
        {**net.state_dict(), "mu": torch.tensor(MEAN2).view(1, 3, 1, 1), "sigma": torch.tensor(STD2).view(1, 3, 1, 1)},
        nn.Sequential(Normalise(), net),
    ),
    "first layer": lambda net: ((both := nn.Sequential(Normalise(), net)).state_dict(), both),
    "another prefix": lambda net: (
        (both := nn.Sequential(Normalise("image_mean", "image_std", shape=(3, 1, 1)), net)).state_dict(), both,
    ),
    "another scheme": lambda net: ((both := nn.Sequential(Normalise("means", "sds"), net)).state_dict(), both),
    "pixels of 255": lambda net: (
        nn.Sequential(Normalise(scale=255), net).state_dict(), nn.Sequential(Normalise(), net),
    ),
    "our own": lambda net: ((ours := Normalised(net, mean=MEAN2, std=STD2)).state_dict(), ours),
    "robustness": lambda net: (
        {"model": robustness(net.state_dict()), "epoch": 3}, nn.Sequential(Normalise(), net),  # type: ignore[dict-item]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NORMALISED.values(), ids=NORMALISED)
def test_the_file_s_own_normalisation_goes_into_the_model(
    case: Callable[[nn.Module], tuple[StateDict, nn.Module]], tmp_path: Path
) -> None:
    state, source = case(shaken(CifarResNet18()))
    model, said = loaded(saved(tmp_path / "x.pt", state), "resnet18")
    assert torch.allclose(logits(model, normalised=False), logits(source, normalised=False), rtol=1e-4, atol=1e-4)
    assert "took the normalisation from " in said
    with pytest.raises(ConfigError, match=r"brings its own normalisation, so --teacher.mean and --teacher.std cannot"):
        loaded(tmp_path / "x.pt", "resnet18", mean=(0.1,), std=(0.9,))


OUTSIDE: dict[str, Callable[[StateDict], Any]] = {
    "lists": lambda state: {"state_dict": state, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
    "tuples": lambda state: {"model": state, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "epoch": 3},
    "tensors": lambda state: {
        "state_dict": state, "mean": torch.tensor([0.1, 0.2, 0.3]), "std": torch.tensor([0.4, 0.5, 0.6]),
    },
    "a dict": lambda state: {"state_dict": state, "normalize": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}},
    "deeper": lambda state: {"net": {"state_dict": state, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}},
    "among the weights": lambda state: {**state, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
}  # fmt: skip


@pytest.mark.parametrize("case", OUTSIDE.values(), ids=OUTSIDE)
def test_a_normalisation_beside_the_state_dict_goes_into_the_model(case: Callable[..., Any], tmp_path: Path) -> None:
    net = shaken(CifarResNet18())
    model, said = loaded(saved(tmp_path / "x.pt", case(net.state_dict())), "resnet18")
    source = Normalised(net, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert torch.allclose(logits(model, normalised=False), logits(source, normalised=False), rtol=1e-4, atol=1e-4)
    assert "took the normalisation from " in said


@pytest.mark.parametrize(
    "beside",
    [
        {"mean": 0.3, "std": 0.1},
        {"mean": [0.91, 0.9, 0.92], "std": [0.01, 0.02, 0.01]},
        {"test_acc": {"mean": [0.93], "std": [0.31]}},
        {"mu": [0.9]},
        {"sigmas": [0.1, 0.2, 0.3]},
        {"norm_a": {"mean": [0.1] * 3, "std": [0.4] * 3}, "norm_b": {"mean": [0.2] * 3, "std": [0.4] * 3}},
        {"mean": [-1.0] * 3, "std": [2.0] * 3},
    ],
)
def test_other_numbers_beside_the_weights_are_no_normalisation(beside: dict[str, Any], tmp_path: Path) -> None:
    net = shaken(CifarResNet18())
    model, said = loaded(saved(tmp_path / "x.pt", {"state_dict": net.state_dict(), **beside}), "resnet18")
    assert torch.allclose(logits(model, normalised=False), logits(net), rtol=1e-4, atol=1e-4)
    assert "normalisation" not in said


def test_a_normalisation_given_by_option_counts_over_one_beside_the_weights(tmp_path: Path) -> None:
    net = shaken(CifarResNet18())
    path = saved(tmp_path / "x.pt", {"state_dict": net.state_dict(), "mean": [0.1] * 3, "std": [0.4] * 3})
    model, _ = loaded(path, "resnet18", mean=(0.2,), std=(0.5,))
    source = Normalised(net, mean=(0.2,) * 3, std=(0.5,) * 3)
    assert torch.allclose(logits(model, normalised=False), logits(source, normalised=False), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({"mean": torch.full((3,), 0.5), "std": torch.zeros(3)}, "std 0,0,0"),
        ({"norm.mean": torch.full((3,), 0.5), "norm.std": torch.tensor([0.2, -0.2, 0.2])}, "norm.std 0.2,-0.2,0.2"),
        ({"pixel_mean": torch.full((3, 1, 1), 0.5)}, "pixel_mean 0.5,0.5,0.5"),
    ],
)
def test_a_normalisation_that_cannot_be_used_is_not_passed_over(beside: StateDict, said: str, tmp_path: Path) -> None:
    state = prefixed("model.", fresh("convnet3").network.state_dict())
    error = refusal(saved(tmp_path / "x.pt", {**state, **beside}), "convnet3")
    assert "a normalisation that cannot be used" in error.what
    assert said in error.seen


def test_weights_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    state = {n: (100 * v).to(torch.int8) for n, v in fresh("convnet3").network.state_dict().items()}
    assert "is of torch.int8, not of floating point" in refusal(saved(tmp_path / "x.pt", state), "convnet3").seen


def test_the_index_of_a_sharded_checkpoint_is_named(tmp_path: Path) -> None:
    (path := tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    error = refusal(path, "convnet3")
    assert "lists the files over which weights are spread" in error.what
    assert "load_file" in error.do


def test_averaged_by_torch(tmp_path: Path) -> None:
    averaged = AveragedModel(source := shaken(fresh("convnet3").network))
    averaged.update_parameters(source)
    model, _ = loaded(saved(tmp_path / "x.pt", averaged.state_dict()), "convnet3")
    assert torch.equal(logits(model.network), logits(source))


def refusal(path: Path, network: str, **options: Any) -> GuardError:
    with pytest.raises(GuardError) as caught:
        loaded(path, network, **options)
    return caught.value


def test_on_failure_the_closest_architectures_are_named(tmp_path: Path) -> None:
    source = shaken(CifarResNet18())
    error = refusal(saved(tmp_path / "x.pt", source.state_dict()), "convnet3")
    assert "do not fit the network convnet3 (--teacher.network)" in error.what
    assert "Closest by names and shapes: resnet18 (all of " in error.do
    deeper = fresh("resnet34").network.state_dict()
    error = refusal(saved(tmp_path / "x.pt", deeper), "resnet18")  # its names are all there, and more
    assert "the network has no layer1.2.conv1.weight" in error.seen
    assert "Closest by names and shapes: resnet34 (all of " in error.do
    wide = nn.Linear(512, 1000).state_dict()
    more = {**source.state_dict(), "linear.weight": wide["weight"], "linear.bias": wide["bias"]}
    error = refusal(saved(tmp_path / "x.pt", more), "resnet18")
    assert error.seen == "fc.weight is (1000, 512), not (10, 512); fc.bias is (1000,), not (10,)"
    assert "(10 and 32x32 here)" in error.do
    assert "No known network is close" in refusal(saved(tmp_path / "x.pt", {"a.b": torch.ones(3)}), "resnet18").do


def test_two_models_in_one_file_are_not_chosen_between(tmp_path: Path) -> None:
    one, two = (shaken(fresh("convnet3").network, seed).state_dict() for seed in (0, 1))
    error = refusal(saved(tmp_path / "x.pt", {**prefixed("left.", one), **prefixed("right.", two)}), "convnet3")
    assert "several models that fit the network convnet3" in error.what
    assert error.seen == "their names begin with 'left.', 'right.'"
    error = refusal(saved(tmp_path / "x.pt", {"left": one, "right": two}), "convnet3")
    assert error.seen == "under: left, right"
    model, _ = loaded(saved(tmp_path / "x.pt", {**prefixed("left.", one), **prefixed("right.", one)}), "convnet3")
    assert torch.equal(model.network.state_dict()["classifier.bias"], one["classifier.bias"])


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never run",)


@pytest.mark.parametrize("value", [Payload(), Path("x"), lambda: 0, nn.Linear(1, 1)], ids=lambda v: type(v).__name__)
def test_nothing_but_inert_types_is_unpickled(value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = fresh("convnet3").network.state_dict()
    try:
        torch.save({"model": state, "args": argparse.Namespace(value=value)}, tmp_path / "x.pt")
    except Exception:
        pytest.skip("cannot be pickled")
    assert "holds more than weights" in refusal(tmp_path / "x.pt", "convnet3").what
    assert capsys.readouterr().out == ""


def test_odd_tensors_are_refused(tmp_path: Path) -> None:
    state = fresh("convnet3").network.state_dict()
    for value, said in (
        (torch.full((10,), float("nan")), "not finite"), (torch.zeros(10).to_sparse(), "no ordinary tensor"),
        (torch.zeros(10, dtype=torch.complex64), "no ordinary tensor"), (torch.zeros(10, device="meta"), "no ordinary"),
        (torch.zeros(10, dtype=torch.float8_e5m2), "no ordinary tensor"),
    ):  # fmt: skip
        error = refusal(saved(tmp_path / "x.pt", {**state, "classifier.bias": value}), "convnet3")
        assert said in error.what
        assert "classifier.bias" in error.what


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mean": (125.3, 123.0, 113.9)}, "--teacher.mean 0.4914,0.4824,0.4467"),
        ({"std": (63.0,)}, "--teacher.std 0.2471"),
        ({"mean": (-0.1,)}, "constants that the network was trained with"),
        ({"std": (0.2, 0.0, 0.2)}, "constants that the network was trained with"),
        ({"mean": (float("nan"),)}, "constants that the network was trained with"),
        ({"mean": (0.1, 0.2)}, "as 0.49,0.48,0.45"),
    ],
)
def test_normalisation_is_for_pixels_between_0_and_1(options: Any, said: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", fresh("convnet3").network.state_dict())
    assert said in refusal(path, "convnet3", **options).do


def test_the_normalisation_given_is_used(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", fresh("convnet3").network.state_dict())
    model, _ = loaded(path, "convnet3", mean=(0.1, 0.2, 0.3), std=(0.5,))
    assert torch.allclose(model.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    assert torch.allclose(model.std.flatten(), torch.tensor([0.5] * 3))


@pytest.mark.parametrize("network", ["convnet3", "resnet18"])
def test_outputs_in_another_order(network: str, tmp_path: Path) -> None:
    source = shaken(fresh(network).network)
    path = saved(tmp_path / "x.pt", source.state_dict())
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(0)).tolist()
    names = tmp_path / "classes.txt"
    names.write_text("\n".join("abcdefghij"[label] for label in order) + "\n")
    model, said = loaded(path, network, classes=names)
    assert torch.allclose(logits(model.network)[:, order], logits(source), rtol=1e-4, atol=1e-5)
    assert str(names) in said
    names.write_text("a\nb\n")
    error = refusal(path, network, classes=names)
    assert "does not hold each class of the data set once (--teacher.classes)" in error.what
    assert "2 names for 10 classes" in error.seen
    names.write_text("\n".join("abcdefghii"))
    assert "in one of the two only, or twice: j" in refusal(path, network, classes=names).seen
    assert "cannot be read (--teacher.classes)" in refusal(path, network, classes=tmp_path / "none.txt").what


CAFE = ("a", "caf\u00e9", "10")


@pytest.mark.parametrize(
    "content",
    [
        "caf\u00e9\n10\na\n", "\ufeffcafe\u0301\r\n10\r\n\r\n a ", '["caf\u00e9", "10", "a"]',
        '["cafe\u0301", 10,\n "a"]\n',
    ],
)  # fmt: skip
def test_names_of_classes_however_they_are_written(content: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(content, encoding="utf-8")
    assert read_order(tmp_path / "x", CAFE) == [2, 0, 1]
    assert read_order(tmp_path / "x", ("a", "cafe\u0301", "10")) == [2, 0, 1]


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ('{"a": 0}', "1 names for 3"), ('["a"', "delimiter"), ("[[]]", "other things than names"),
        ("[" * 10**5, ""),
        ("a,caf\u00e9,10", "1 names for 3"), ("", "0 names for 3"),
        ("a\na\n10", "in one of the two only, or twice: caf"),
        ("A\ncaf\u00e9\n10", "in one of the two only, or twice: A, a"),
    ],
)  # fmt: skip
def test_other_files_of_classes_are_refused(content: str, seen: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"\(--teacher\.classes\)") as error:
        read_order(tmp_path / "x", CAFE)
    assert seen in error.value.seen
