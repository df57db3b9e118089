"""What is given has an effect or is refused, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from guard_plugins import configure
from guard_plugins.cli.arguments import parse
from guard_plugins.errors import ConfigError
from guard_plugins.host import PluginHost
from guard_plugins.host.effects import idle_settings

REFUSED = [
    (["--method", "sre2l", "--data-root", "mine"], "--data-root would do nothing: the data set digits"),
    (["--method", "sre2l", "--download"], "--download would do nothing"),
    (["--method", "sre2l", "--download", "--teacher", "foo"], "--download would do nothing"),
    (["--method", "sre2l", "--data.skip-corrupt"], "--data.skip-corrupt would do nothing"),
    (["--method", "dc", "--teacher", "foo"], "--teacher would do nothing: the method dc has no teacher"),
    (["--method", "dc", "--teacher.training", "trades"], "--teacher.training would do nothing"),
    (["--method", "dc", "--teacher.lr", "9", "--teacher.epochs", "7"], "--teacher.epochs, --teacher.lr would do"),
    (["--method", "dc", "--student.temperature", "4"], "students of dc learn from hard labels"),
    (["--method", "dc", "--student.guard-h-rms", "0.1"], "students are trained without the hook"),
    (["--method", "dc", "--guard.h", "1", "--student.guard-weight", "1"], "need a step length per pixel"),
    (["--method", "dc", "--match.strategy", "color"], "only --match.augment dsa"),
    (["--method", "dc", "--ipc", "1", "--match.batch", "9"], "no network is trained"),
    (["--method", "sre2l", "--teacher", "foo", "--teacher.epochs", "3"], "the teacher is given"),
    (["--method", "sre2l", "--teacher.eps", "0.1"], "the objective plain does not read it"),
    (["--method", "sre2l", "--teacher.training", "fgsm-rs", "--teacher.attack-steps", "3"], "--teacher.attack-steps"),
    (["--method", "sre2l", "--teacher.training", "pgd", "--guard.weight", "3"], "takes the hook's place"),
    (["--method", "sre2l", "--guard.weight", "0", "--guard.every", "3"], "the term has no weight"),
    (["--method", "sre2l", "--no-guard", "--guard.every", "4"], "--no-guard leaves the curvature hook out"),
    (["--method", "sre2l", "--recover.patch-scale", "0.2"], "only --recover.start real"),
    (["--method", "sre2l", "--recover.r-bn", "0", "--recover.first-bn", "2"], "--recover.r-bn 0"),
    (["--method", "cda", "--recover.crop-scale", "1", "--curriculum.shape", "step"], "there is no curriculum"),
    (["--method", "cda", "--curriculum.milestone", "0", "--curriculum.shape", "step"], "there is no curriculum"),
    (["--method", "sre2l", "--student.mixup", "0.8", "--student.cutmix", "1"], "CutMix takes its place"),
    (["--method", "sre2l", "--teacher.network", "ResNet18"], "Did you mean 'resnet18'"),
    (["--method", "sre2l", "--student.network", "nonsense"], "Unknown network 'nonsense'"),
    (["--method", "sre2l", "--dataset", "CIFAR-10"], "Did you mean 'cifar10'"),
    (["--method", "sre2l", "--preset", "fsat"], "Did you mean 'fast'"),
    (["--method", "sre2l", "--epochs", "3"], "--teacher.epochs or --student.epochs"),
    (["--method", "sre2l", "--evaluation.protocol", "qick"], "Did you mean 'quick'"),
    (["--method", "sre2l", "--evaluation.protocol", "pgd-20", "--evaluation.eps", "4,8/255"], "write 8 for 8/255"),
    (["--method", "sre2l", "--ipc", "3", "random"], "'random' stands where an option should"),
    (["random", "random"], "The method, or a file, comes first, and once"),
    (["SRe2L"], "Did you mean 'sre2l'"),
    (["--meth", "sre2l"], "Did you mean --method by --meth"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else " ".join(value)[9:]
)
def test_what_would_do_nothing_is_refused(arguments: Sequence[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(arguments, surroundings=False)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--method", "sre2l", "--dataset", "folder", "--data-root", "mine", "--data.skip-corrupt"],
        ["--method", "sre2l", "--dataset", "folder", "--data-root", "mine", "--download", "--teacher", "timm:resnet18"],
        ["--method", "dc", "--teacher.activation", "silu"],
        ["--method", "dc", "--guard.weight", "2", "--guard.every", "2"],
        ["--method", "dc", "--match.augment", "dsa", "--match.strategy", "color_crop"],
        ["--method", "sre2l", "--teacher", "foo", "--teacher.network", "resnet18"],
        ["--method", "sre2l", "--teacher.training", "trades", "--teacher.eps", "0.1", "--teacher.rival-weight", "3"],
        ["--method", "sre2l", "--no-guard", "--guard.h-rms", "0.1"],
        ["--method", "sre2l", "--recover.start", "real", "--recover.patch-scale", "0.2"],
        ["--method", "dc", "--guard.h", "1", "--student.guard-weight", "1", "--student.guard-h-rms", "0.1"],
        ["--method", "sre2l", "--no-guard", "--student.guard-weight", "1", "--student.guard-h-rms", "0.1"],
    ],
    ids=lambda value: " ".join(value)[9:60],
)
def test_what_has_an_effect_passes(arguments: Sequence[str]) -> None:
    parse(arguments, surroundings=False)


def test_a_first_word_is_the_method() -> None:
    assert parse(["cda", "--ipc", "3"]).config.method == "cda"


def test_a_stored_configuration_runs_again_and_may_be_overruled(tmp_path: Path) -> None:
    config = configure("sre2l", guard={"weight": 2.0}, teacher={"epochs": 3})
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert parse([f"--config={path}"], surroundings=False).config == config
    assert parse([f"--config={path}", "--no-guard"], surroundings=False).config.no_guard
    assert parse([f"--config={path}", "--teacher", "foo"], surroundings=False).config.teacher.path == Path("foo")


def test_a_file_that_would_do_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("method: dc\nteacher: {lr: 9}\n")
    with pytest.raises(ConfigError, match=r"--teacher.lr would do nothing"):
        parse([f"--config={path}"], surroundings=False)


def test_python_is_held_to_the_same() -> None:
    with pytest.raises(ConfigError, match=r"--teacher.epochs would do nothing"):
        configure("dc", teacher={"epochs": 2})


def test_a_preset_for_other_images_says_what_it_does_to_these() -> None:
    (note,) = parse(["--method", "sre2l", "--dataset", "digits", "--preset", "imagenet"], surroundings=False).notes
    assert "resizes the images of digits to 224 pixels" in note
    assert not parse(["--method", "sre2l", "--dataset", "imagenet", "--data-root", "x"], surroundings=False).notes


@pytest.mark.parametrize("name", ["sre2l", "cda", "dc", "random", "noise"])
def test_idle_settings_are_settings(name: str) -> None:
    host = PluginHost()
    method, config = host.method(name), configure(name)
    for idle in idle_settings(config, method, host.datasets["digits"]):
        section: BaseModel = config
        for part in idle.path[:-1]:
            section = getattr(section, part)
        assert idle.path[-1] in type(section).model_fields, idle
