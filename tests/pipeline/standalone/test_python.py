"""From Python: a model in memory written as a teacher, and evaluated; foreign weights as the teacher of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import guard_plugins
from guard_plugins import CurvatureHook, Normalised, configure, evaluate, load_data, run, save_teacher
from guard_plugins.artifacts.teacher import read_card
from guard_plugins.cli import eval as eval_command
from guard_plugins.cli import run as run_command
from guard_plugins.data.base import Data
from guard_plugins.errors import ConfigError, GuardError
from guard_plugins.host import PluginHost
from guard_plugins.networks.base import NetworkRequest
from guard_plugins.networks.normalised import build_normalised
from tests.pipeline.conftest import TINY, do_tiny_run

NETS = """
from torch import nn

def linear(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

class Fixed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 7))

class Pair(Fixed):
    def forward(self, x):
        return super().forward(x), x

def nothing():
    return None
"""


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits")


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def built(name: str, data: Data, activation: Any = "relu") -> Normalised:
    torch.manual_seed(0)
    return build_normalised(PluginHost(only=[]).networks[name](), data, activation=activation).eval()


@pytest.mark.parametrize(("name", "activation"), [("small-resnet", "relu"), ("convnet3-bn", "gelu")])
def test_the_architecture_is_found_by_its_logits(name: str, activation: str, digits: Data, tmp_path: Path) -> None:
    model = built(name, digits, activation)
    path = save_teacher(tmp_path / "x.safetensors", model, digits)
    card = read_card(path)
    assert (card.network, card.activation, card.guard, card.training) == (name, activation, None, "unknown")
    inner = save_teacher(tmp_path / "y.safetensors", model.network, "digits", mean=digits.mean, std=digits.std)
    assert inner.read_bytes() == path.read_bytes()


def test_what_cannot_be_built_anew_is_refused(digits: Data, nets: Path) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ConfigError, match="cannot be built anew") as caught:
        save_teacher("x.safetensors", own, digits)
    assert "FILE.py:NAME" in caught.value.do
    model = built("convnet3-bn", digits, "gelu")
    with pytest.raises(ConfigError, match="network 'convnet3-bn'") as caught:
        save_teacher("x.safetensors", model, digits, network="convnet3-bn", activation="relu")
    assert "same names and shapes, other logits" in caught.value.seen
    for wrong in ({"mean": (0.5,)}, {"mean": (0.5, 0.5), "std": (0.5, 0.5)}):
        with pytest.raises(ConfigError, match="mean and std go together"):
            save_teacher("x.safetensors", own, digits, network="nets.py:linear", **wrong)
    with pytest.raises(ConfigError, match="brings its own normalisation"):
        save_teacher("x.safetensors", model, digits, mean=(0.5,), std=(0.5,))
    with pytest.raises(ConfigError, match=r"ends in \.safetensors"):
        save_teacher("x.pt", model, digits)
    assert [path.name for path in nets.iterdir() if path.suffix != ""] == ["nets.py"]


@pytest.mark.parametrize("place", ["nets.py", "nets"])
def test_a_network_of_one_s_own_by_file_or_module(place: str, digits: Data, nets: Path) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    hook = CurvatureHook(h=0.5, weight=2.0)
    save_teacher("x.safetensors", own, digits, network=f"{place}:linear", hook=hook)
    card = read_card(Path("x.safetensors"))
    assert card.guard == {"h_rms": None, "h": 0.5, "weight": 2.0, "penalty": "loss", "every": 1}
    assert eval_command.main([
        "x.safetensors", "--teacher.network", f"{place}:linear", "--evaluation.protocol", "fgsm",
        "--evaluation.images", "20",
    ]) == 0  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nets.py:Fixed", "two images give outputs of shape (2, 7)"),
        ("nets.py:Pair", "two images give a tuple, not one tensor"),
        ("nets.py:nothing", "it returned NoneType, not a torch.nn.Module"),
        ("nets.py:missing", "There is no function or class 'missing' in nets.py"),
        ("nowhere.py:Net", "cannot be imported"),
        ("no.such.module:Net", "cannot be imported"),
    ],
)
def test_own_code_that_does_not_fit_is_refused(
    name: str, said: str, nets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(nn.Linear(1, 1).state_dict(), "x.pt")
    assert eval_command.main(["x.pt", "--teacher.network", name]) == 2
    assert said in capsys.readouterr().err
    assert run_command.main(["--method", "random", "--teacher.network", name]) == 2
    assert said in capsys.readouterr().err
    assert not (nets / "runs").exists()


def test_own_networks_take_the_parameters_they_name(digits: Data, nets: Path) -> None:
    network = PluginHost(only=[]).networks["nets.py:linear"]()
    assert network.build(NetworkRequest(image_shape=(1, 8, 8), classes=4))[1].out_features == 4  # type: ignore[index]


@pytest.mark.slow
def test_evaluate_finds_what_a_run_found(tmp_path: Path, digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
    report, folder = do_tiny_run(tmp_path / "run", "random")
    model = built("small-resnet", digits)
    from safetensors.torch import load_file

    model.load_state_dict(load_file(folder / "teacher.safetensors"))
    model.train()
    found = evaluate(model, "digits", images=20)
    assert model.training
    assert report.models.teacher is not None
    assert found.model.clean == report.models.teacher.clean
    assert [one.eps for one in found.model.robust] == [one.eps for one in report.models.teacher.robust]
    capsys.readouterr()
    assert evaluate(model, digits, "fgsm", eps=[0.03], images=20).protocol == "fgsm"
    assert "far below one grey level" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no protocol called 'quik'"):
        evaluate(model, digits, "quik")


@pytest.mark.parametrize(
    ("eps", "radii"), [(8, [8]), (0.5, [0.5]), (range(1, 3), [1, 2]), (np.array([1.0, 2.0]), [1, 2])]
)
def test_radii_may_be_one_number_or_any_sequence(eps: Any, radii: list[float], digits: Data) -> None:
    model = Normalised(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), mean=digits.mean, std=digits.std)
    found = evaluate(model, digits, "fgsm", eps=eps, images=5).model.robust
    assert [result.eps * 255 for result in found] == pytest.approx(radii)
    assert configure("random", evaluation={"protocol": "fgsm", "eps": eps}).evaluation.eps == tuple(radii)


def test_a_text_is_not_taken_apart_into_radii(digits: Data) -> None:
    """'16' is not 1 and 6."""
    model = Normalised(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), mean=digits.mean, std=digits.std)
    with pytest.raises(ConfigError, match=r"evaluation\.eps"):
        evaluate(model, digits, "fgsm", eps="16", images=5)


@pytest.mark.slow
def test_a_run_takes_the_weights_of_another_code_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = do_tiny_run(tmp_path / "first", "random", teacher={"epochs": 2})
    from safetensors.torch import load_file

    whole = load_file(folder / "teacher.safetensors")
    inner = {f"module.{name[8:]}": value for name, value in whole.items() if name.startswith("network.")}
    torch.save({"model": inner, "epoch": 3}, tmp_path / "x.pth")
    capsys.readouterr()
    report = run(configure("random", **{**TINY, "teacher": {"path": tmp_path / "x.pth"}}, output=tmp_path / "second"))
    assert "took the weights under 'model'; dropped the prefix 'module.'" in capsys.readouterr().err
    again = load_file(tmp_path / "second" / "teacher.safetensors")
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    assert (report.guard, report.training) == (None, "unknown")
    card = read_card(tmp_path / "second" / "teacher.safetensors")
    assert (card.guard, card.training) == (None, "unknown")
    refused = ["--method", "random", "--teacher", str(tmp_path / "x.pth"), "--output", str(tmp_path / "third")]
    assert run_command.main([*refused, "--teacher.mean", "125.3"]) == 2
    assert "divide by 255" in capsys.readouterr().err
    assert run_command.main([*refused, "--teacher.network", "convnet3"]) == 2
    assert "Closest by names and shapes: small-resnet" in capsys.readouterr().err
    assert run_command.main(["--method", "random", "--teacher.mean", "0.3", "--output", str(tmp_path / "third")]) == 2
    assert "--teacher.mean would do nothing" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()


def test_the_names_are_at_the_top() -> None:
    for name in ("evaluate", "load_data", "save_teacher"):
        assert name in dir(guard_plugins)


class Wrong(nn.Module):
    """Takes digits, and returns something else than their logits."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: torch.Tensor) -> Any:
        return self.answer(images)


with torch.inference_mode():
    UNDER_INFERENCE = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
MODELS: dict[str, tuple[Any, str]] = {
    "inference mode": (UNDER_INFERENCE, r"was built under torch\.inference_mode"),
    "no module": ({"weight": torch.zeros(1)}, "The model is no torch.nn.Module"),
    "nothing": (None, "The model is no torch.nn.Module"),
    "other images": (nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), r"does not take images of shape \(1, 8, 8\)"),
    "other classes": (nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), r"does not return logits of shape \(\d, 10\)"),
    "a tuple": (Wrong(lambda images: (images, images)), "does not return logits"),
    "NaN": (Wrong(lambda images: torch.full((len(images), 10), torch.nan)), "logits are not finite"),
}


@pytest.mark.parametrize(("model", "said"), MODELS.values(), ids=MODELS)
def test_models_that_do_not_fit_the_data_are_refused(model: Any, said: str, digits: Data, tmp_path: Path) -> None:
    with pytest.raises(GuardError, match=said):
        evaluate(model, digits, "fgsm", images=10)
    with pytest.raises(GuardError, match=said):
        save_teacher(tmp_path / "x.safetensors", model, digits)
    assert not list(tmp_path.iterdir())


def test_what_is_no_data_or_no_normalisation_is_refused(digits: Data, tmp_path: Path) -> None:
    model, path = built("small-resnet", digits).network, tmp_path / "x.safetensors"
    with pytest.raises(ConfigError, match="data is neither the name of a data set nor one"):
        evaluate(model, 5, "fgsm")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="data is neither the name of a data set nor one"):
        save_teacher(path, model, 5)  # type: ignore[arg-type]
    for mean, std in ((0.5, 0.5), ("a", "b"), ([0.5], [0.0]), ([0.5], None), ([0.5] * 3, [0.5] * 3)):
        with pytest.raises(ConfigError, match="mean and std go together, with one number for each channel"):
            save_teacher(path, model, digits, mean=mean, std=std)  # type: ignore[arg-type]


def test_a_model_being_trained_stays_in_training(digits: Data, tmp_path: Path) -> None:
    model = built("small-resnet", digits).train()
    save_teacher(tmp_path / "x.safetensors", model, digits)
    assert model.training
