"""guard-eval's options: guard-run's names, the spellings of version 0.1, and what an evaluation says on screen."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from guard_plugins.cli import eval as command
from guard_plugins.cli.eval_arguments import RENAMED, current_spelling, parse
from guard_plugins.config.schema import RunConfig
from guard_plugins.errors import ConfigError
from guard_plugins.pipeline.standalone.request import EvaluationRequest
from tests.hostile.judge import WorkBegan, without_work
from tests.pipeline.conftest import do_tiny_run

FAST = ["--evaluation.protocol", "fgsm", "--evaluation.images", "40"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return do_tiny_run(tmp_path_factory.mktemp("options") / "run", "random", teacher={"epochs": 3})[1]


@pytest.fixture
def inner(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's teacher as another code base would name them."""
    whole = load_file(run / "teacher.safetensors")
    return {name.removeprefix("network."): value for name, value in whole.items() if name.startswith("network.")}


def test_old_spellings_mean_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    old = parse(
        [
            "net.pth",
            "--arch",
            "resnet18",
            "--activation=gelu",
            "--mean",
            "0.1",
            "0.2",
            "0.3",
            "--std=0.5",
            "--protocol",
            "pgd-3",
            "--eps",
            "1",
            "2",
            "--images",
            "9",
            "--batch-size",
            "3",
            "--image-size",
            "8",
            "--data-root",
            "~/x",
        ]
    )
    said = capsys.readouterr().err
    new = parse(
        [
            "net.pth",
            "--teacher.network",
            "resnet18",
            "--teacher.activation",
            "gelu",
            "--teacher.mean",
            "0.1,0.2,0.3",
            "--teacher.std",
            "0.5",
            "--evaluation.protocol",
            "pgd-3",
            "--evaluation.eps",
            "1,2",
            "--evaluation.images",
            "9",
            "--evaluation.batch-size",
            "3",
            "--data.image-size",
            "8",
            "--data-root",
            "~/x",
        ]
    )
    assert old == new
    assert "note: --arch is now called --teacher.network\n" in said
    assert said.count("note: ") == 9
    assert capsys.readouterr().err == ""
    old = parse(
        [
            "--distilled",
            "x",
            "--student",
            "convnet3",
            "--seeds",
            "3",
            "--recipe",
            "dc",
            "--epochs",
            "4",
            "--labels",
            "stored",
        ]
    )
    new = parse(
        [
            "--distilled",
            "x",
            "--student.network",
            "convnet3",
            "--student.count",
            "3",
            "--student.protocol",
            "dc",
            "--student.epochs",
            "4",
            "--student.labels",
            "stored",
        ]
    )
    assert old == new
    assert new.settings() == {"student": {"network": "convnet3", "count": 3, "protocol": "dc", "epochs": 4}}


def test_the_two_names_of_an_option_are_not_given_together() -> None:
    with pytest.raises(ConfigError, match=r"--seeds and --student\.count are the same option"):
        current_spelling(["--seeds", "2", "--student.count", "3"])


def test_several_numbers_may_stand_apart() -> None:
    assert current_spelling(["--evaluation.eps", "8", "16", "x.pt"])[0] == ["--evaluation.eps", "8,16", "x.pt"]
    assert current_spelling(["--teacher.std=1", "2", "--seed", "3"])[0] == ["--teacher.std=1,2", "--seed", "3"]
    assert parse(["x.pt", "--evaluation.eps", "8", "16"]).evaluation.eps == (8, 16)


def test_options_of_both_commands_have_the_same_names() -> None:
    own = {"checkpoint", "distilled"}
    assert set(EvaluationRequest.model_fields) - own <= set(RunConfig.model_fields)
    for section in ("teacher", "student", "data", "evaluation"):
        ours, theirs = (
            set(model.model_fields[section].annotation.model_fields)  # type: ignore[union-attr]
            for model in (EvaluationRequest, RunConfig)
        )
        assert ours <= theirs, section
    known = {f"--{s}.{f}" for s in ("teacher", "student", "data", "evaluation")
             for f in EvaluationRequest.model_fields[s].annotation.model_fields}  # type: ignore[union-attr]  # fmt: skip
    assert {new.replace("-", "_")[2:] for new in RENAMED.values()} <= {name[2:] for name in known}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.pt", "--student.lr", "1"], "--student.lr belongs to students"),
        (["x.pt", "--teacher", "y.pt"], "--teacher belongs to students"),
        (["--distilled", "x", "--classes", "y"], "--teacher.classes belongs to a checkpoint or a teacher"),
        (["--distilled", "x", "--student.labels", "online"], "needs a --teacher"),
        (["--distilled", "x", "--student.guard-h-rms", "0.1"], "--student.guard-h-rms has no effect"),
        (
            ["--distilled", "x", "--student.labels", "hard", "--student.feature-weight", "1"],
            "--student.feature-weight has no effect",
        ),
        (["x.pt", "--data.train-per-class", "3"], "--data.train-per-class has no effect here"),
        (["x.pt", "--preset", "Fast"], "Did you mean 'fast'?"),
        (["x.pt", "--evaluation.epsilon", "3"], "Did you mean --evaluation.eps?"),
        (["x.pt", "--nonsense"], "`guard-eval --help` lists the options"),
        (["x.pt", "--evaluation.images", "many"], "`guard-eval --help` describes every option"),
    ],
)
def test_what_has_no_effect_or_no_meaning_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "guard-run" not in message


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--distilled", "x", "--preset", "fast", "--help"])
    text = capsys.readouterr().out
    words = " ".join(text.split())
    for said in (
        "[CHECKPOINT]", "examples:", "as 0.49,0.48,0.45", "passes over the distilled images (default: 400)",
        "or an attack alone, as reports label it", "(short: --teacher PATH)",
    ):  # fmt: skip
        assert said in words
    assert "None" not in words


def own_flags(capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    return set(re.findall(r"--[a-z][a-z.-]*[a-z]", capsys.readouterr().out))


@pytest.mark.parametrize("wrong", ["", "nonsense", "-1", "none"])
@pytest.mark.parametrize("subject", ["checkpoint", "distilled"])
def test_errors_name_options_of_this_command_only(
    subject: str, wrong: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    known = own_flags(capsys)
    given = [str(run / "teacher.safetensors")] if subject == "checkpoint" else ["--distilled", str(run)]
    refused = set()
    with without_work():
        for option in sorted(known - {"--help", "--version", "--download", "--set"}):
            arguments = [*given, option, wrong] if option != "--distilled" else [option, wrong]
            with contextlib.suppress(WorkBegan):
                code = command.main(arguments)
                said = capsys.readouterr().err
                assert (code, said.count("error: ")) == (2, 1), (arguments, said)
                own = re.sub(r"guard-(run|plugins) (--[a-z-]+)", "", said)
                assert set(re.findall(r"--[a-z][a-z.-]*[a-z]", own)) <= known | {"--classes"}, (arguments, said)
                refused.add(option)
    assert len(refused) > 25
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_outputs_in_another_order_are_noticed_and_put_right(
    inner: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = [3, 5, 0, 9, 1, 2, 4, 8, 6, 7]  # no digit stays in its place
    mixed = {**inner, **{name: inner[name][order] for name in ("classifier.weight", "classifier.bias")}}
    torch.save(mixed, tmp_path / "x.pt")
    arguments = [str(tmp_path / "x.pt"), "--teacher.network", "small-resnet", *FAST]
    assert command.main([*arguments, "--output", str(tmp_path / "wrong.json")]) == 0
    said = capsys.readouterr().err
    assert "release gate, warning for the checkpoint: clean accuracy above chance" in said
    assert "below chance; with the outputs in another order it would be " in said
    assert f"is {', '.join(map(str, order))}; compare it with the training code" in said
    (tmp_path / "classes.txt").write_text("\n".join(map(str, order)))
    arguments += ["--classes", str(tmp_path / "classes.txt"), "--output", str(tmp_path / "right.json")]
    assert command.main(arguments) == 0
    assert "below chance" not in capsys.readouterr().err
    wrong, right = (json.loads((tmp_path / f"{n}.json").read_text())["model"]["clean"] for n in ("wrong", "right"))
    assert wrong < 0.1 < 0.5 < right


@pytest.mark.slow
def test_a_radius_in_the_wrong_unit_is_noticed_by_a_run_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attack = {"protocol": "fgsm", "eps": (0.0314,), "images": 4}
    do_tiny_run(tmp_path / "run", "noise", teacher={"epochs": 1}, evaluation=attack)
    assert "Was 8/255 meant? Then give --evaluation.eps 8" in capsys.readouterr().err


def test_a_radius_in_the_wrong_unit_is_noticed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(run), *FAST, "--evaluation.eps", "0.0314"]) == 0
    said = capsys.readouterr().err
    assert "--evaluation.eps 0.0314 is 0.0314/255" in said
    assert "Was 8/255 meant? Then give --evaluation.eps 8" in said
    assert command.main([str(run), *FAST, "--evaluation.eps", "0.5,1"]) == 0
    assert "meant?" not in capsys.readouterr().err


def test_students_learn_from_the_weights_of_another_code_base(
    run: Path, inner: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": {f"module.{name}": value for name, value in inner.items()}}, tmp_path / "x.pth")
    students = ["--distilled", str(run), "--student.epochs", "3", *FAST]
    foreign = ["--teacher", str(tmp_path / "x.pth"), "--teacher.network", "small-resnet"]
    assert command.main([*students, *foreign, "--output", str(tmp_path / "a.json")]) == 0
    assert "took the weights under 'model'; dropped the prefix 'module.' of the names" in capsys.readouterr().err
    assert command.main([*students, "--teacher", str(run), "--output", str(tmp_path / "b.json")]) == 0
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert one["model"] == two["model"]


def test_a_file_that_does_not_say_its_network_is_told_from_its_names(
    inner: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(inner, tmp_path / "x.pt")
    assert command.main([str(tmp_path / "x.pt")]) == 2
    assert "closest by names and shapes: small-resnet (all of " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--data-root", "."], "--data-root would do nothing: the data set digits does not read it"),
        (["--download"], "--download would do nothing: the data set digits"),
        (["--data.cache", "x"], "--data.cache would do nothing: the data set digits"),
        (["--data.skip-corrupt"], "--data.skip-corrupt would do nothing: the data set digits"),
        (["--student.temperature", "3"], "--student.temperature would do nothing: the students learn from hard labels"),
        (
            ["--student.protocol=gift", "--student.temperature=3", "--teacher=RUN"],
            "students of the recipe gift compare logits",
        ),
        (["--student.mixup=0.5", "--student.cutmix=0.5"], "--student.mixup would do nothing: CutMix takes its place"),
    ],
)
def test_what_would_do_nothing_for_students_is_refused(
    given: list[str], why: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("RUN", str(run)) for word in given]
    assert command.main(["--distilled", str(run), *FAST, *given]) == 2
    assert why in capsys.readouterr().err


def test_a_set_of_other_classes_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = tmp_path / "set"
    shutil.copytree(run / "distilled", copied)
    lines = (copied / "metadata.jsonl").read_text().splitlines()
    (copied / "metadata.jsonl").write_text("\n".join([lines[0].replace('"class": "0"', '"class": "zero"'), *lines[1:]]))
    assert command.main(["--distilled", str(copied), *FAST]) == 2
    said = capsys.readouterr().err
    assert "has other classes than the data set 'digits'" in said
    assert "class 0: 'zero' in the set, '0' in the data; 1 differ" in said
    renamed = [re.sub(r'"class": "(.)"', r'"class": "digit \1"', line) for line in lines]
    (copied / "metadata.jsonl").write_text("\n".join(renamed))
    assert command.main(["--distilled", str(copied), "--student.epochs=1", *FAST]) == 0
    assert "their order is trusted" in capsys.readouterr().err
