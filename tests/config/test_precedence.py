"""Flags win over the environment, that over the file, that over the preset, that over the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from guard_plugins import configure
from guard_plugins.cli.arguments import parse
from guard_plugins.config.sources import FEW
from guard_plugins.errors import ConfigError, PluginError


def test_each_layer_wins_over_the_one_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("teacher: {epochs: 3, lr: 0.3, momentum: 0.3}\nipc: 3\n")
    monkeypatch.setenv("GUARD_RUN_TEACHER__LR", "0.4")
    monkeypatch.setenv("GUARD_RUN_TEACHER__MOMENTUM", "0.4")
    config = parse(["--method", "noise", "--config", str(file), "--teacher.momentum", "0.5"]).config
    assert config.teacher.momentum == 0.5  # flag
    assert config.teacher.lr == 0.4  # environment
    assert (config.teacher.epochs, config.ipc) == (3, 3)  # file
    assert config.teacher.network == "small-resnet"  # preset named like the data set
    assert config.teacher.weight_decay == 5e-4  # default


def test_the_printed_configuration_reruns_the_run(tmp_path: Path) -> None:
    first = parse(["--method", "sre2l", "--guard.h", "0.5", "--seed", "7", "--recover.iterations", "9"])
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(first.config.model_dump(mode="json")))
    assert parse(["--config", str(file)]).config.model_dump() == first.config.model_dump()


def test_the_method_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARD_RUN_METHOD", "noise")
    assert parse([]).config.method == "noise"


def test_python_and_command_line_agree() -> None:
    assert (
        configure("noise", ipc=3, guard={"weight": 2.0})
        == parse(["--method", "noise", "--ipc", "3", "--guard.weight", "2"]).config.model_copy()
    )


def test_h_given_by_the_user_replaces_the_presets_h_rms() -> None:
    guard = configure("noise", guard={"h": 0.5}).guard
    assert (guard.h, guard.h_rms) == (0.5, None)


@pytest.mark.parametrize(
    ("student", "cutmix"),
    [
        ({}, 1.0), ({"epochs": 9}, 1.0), ({"mixup": 0.8}, None), ({"protocol": "sre2l-cifar"}, None),
        ({"protocol": "sre2l-cifar", "cutmix": 0.5}, 0.5), ({"mixup": 0.0, "cutmix": 1.0}, 1.0),
    ],
)  # fmt: skip
def test_a_preset_s_cutmix_gives_way_to_the_user_s_mixup_or_recipe(
    student: dict[str, object], cutmix: float | None
) -> None:
    settings = {"dataset": "folder", "preset": "fast", "student": student}
    assert configure("sre2l", **settings).student.cutmix == cutmix


def test_teacher_path_has_a_short_form() -> None:
    flags = ("--teacher.path", "--teacher")
    long, short = (parse(["--method", "noise", flag, "t.safetensors"]).config for flag in flags)
    assert long == short
    assert str(long.teacher.path) == "t.safetensors"
    assert configure("noise", teacher="t.safetensors").teacher.path == Path("t.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ([], "No method given", "guard-run --method sre2l"),
        (["--method", "sre3l"], "Unknown method 'sre3l'", "Did you mean 'sre2l'?"),
        (["--method", "sre2l", "--ipc", "0"], "--ipc: Input should be greater than 0, got '0'", "describes every"),
        (["--method", "sre2l", "--guard.h-rms", "-1"], "--guard.h-rms: Input should be greater than 0", ""),
        (["--method", "sre2l", "--guard.h", "-1"], "--guard.h: Input should be greater than 0", ""),
        (["--method", "sre2l", "--guard.h", "1", "--guard.h-rms", "1"], "either guard.h or guard.h_rms, not both", ""),
        (["--method", "sre2l", "--guard.weight", "nan"], "--guard.weight: Input should be a finite number", ""),
        (["--method", "sre2l", "--recover.lrr", "3"], "Unknown option --recover.lrr", "--recover.lr"),
        (["--method", "sre2l", "--ipc"], "argument --ipc: expected one argument", ""),
        (
            ["--method", "sre2l", "stray"],
            "'stray' stands where an option should",
            "`guard-run --method NAME --help` lists",
        ),
        (
            ["--method", "random", "--recover.iterations", "3"],
            "Unknown option --recover.iterations",
            "`guard-run --method NAME",
        ),
        (["--method", "sre2l", "--student.network", ""], "--student.network is empty", "or leave it out"),
        (["--method", "sre2l", "--output="], "--output is empty", "or leave it out"),
        (["--method", "sre2l", "--plugin", ""], "--plugin is empty", "or leave it out"),
        (["--method", "sre2l", "--guard.h-rms", "16"], "the unit is pixels in [0, 1], where 16/255 is 0.06275", ""),
        (
            ["--method", "sre2l", "--teacher.training", "pgd", "--teacher.eps", "8"],
            "--teacher.eps: the unit is pixels in [0, 1], where 8/255 is 0.03137",
            "",
        ),
        (
            ["--method", "sre2l", "--config", "a.yaml", "--config=b.yaml"],
            "--config is given twice: a.yaml and b.yaml",
            "",
        ),
        (["--method", "sre2l", "--data.range", "0"], "--data.range takes more values than [0]", "describes every"),
        (["--method", "sre2l", "--data.range", "0", "many"], "--data.range: Input should be a valid number, got", ""),
        (["--method", "sre2l", "--teacher.batch", "3"], "Unknown option", "Did you mean --teacher.batch-size?"),
        (["cda", "--method", "sre2l"], "The method is given twice: 'cda' and --method", "Give one"),
        (
            ["--method", "dc", "--match.network", "ConvNet-3"],
            "(--match.network)",
            "Did you mean 'convnet3'?",
        ),
        (["--method", "sre2l", "--student.network", "Res-Net18"], "(--student.network)", "Did you mean 'resnet18'?"),
        (["--method", "sre2l", "--preset", "digit"], "has no preset 'digit'", "Did you mean 'digits'?"),
        (["--method", "sre2l", "--config", "no/such.yaml"], "There is no configuration file no/such.yaml", "path"),
    ],
)
def test_bad_arguments_are_explained(arguments: list[str], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(arguments)
    assert message in str(caught.value)
    assert hint in caught.value.do
    assert ("Did you mean" in caught.value.do) == (hint.startswith(("--", "Did")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: sre2l\nrecover: {iteration: 3}", "Unknown key 'recover.iteration'"),
        ("method: sre2l\nteachr: {}", "Unknown key 'teachr' (from FILE); did you mean 'teacher'?"),
        ("method: sre2l\nipc: many", "--ipc: Input should be a valid integer"),
        ("method: sre2l\nteacher: [1, 2]", "--teacher"),
        ("- a\n- b", "not a mapping"),
        ("a: b: c", "cannot be read"),
        ("a: b: c", "in the file, line 1"),
        ("methd: sre2l", "Did you mean 'method' by 'methd' in the configuration file?"),
        ("!!python/object/apply:os.system ['true']", "cannot be read"),
        ("1: 2", "not a mapping of option names"),
        ("method: 5", "Unknown method '5'"),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        parse(["--config", str(file)])
    assert message.replace("FILE", str(file)) in str(caught.value) + caught.value.do


def test_a_damaged_configuration_is_blamed_on_the_option_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: b: c")
    with pytest.raises(ConfigError, match=r"config.yaml cannot be read \(--resume\)"):
        parse(["--resume", str(tmp_path)])


@pytest.mark.parametrize(
    ("typed", "near"),
    [("--hook.weight", "--guard.weight"), ("--epochs", "--teacher.epochs or --student.epochs"),
     ("--gaurd.weight", "--guard.weight")],
)  # fmt: skip
def test_an_option_of_another_section_is_named(typed: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"Unknown option {typed}") as caught:
        parse(["--method", "noise", typed, "3"])
    assert f"Did you mean {near}? " in caught.value.do


def test_a_field_of_many_sections_names_a_few() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(["--method", "sre2l", "--nothing.epochs", "3"])
    assert caught.value.do.count(" or --") < FEW


@pytest.mark.parametrize("name", ["GUARD_RUN_PRESET", "GUARD_RUN_STUDENT__NETWORK", "GUARD_RUN_OUTPUT"])
def test_an_empty_variable_is_no_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    with pytest.raises(ConfigError, match="is empty"):
        parse(["--method", "noise"])


def test_a_bad_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARD_RUN_IPC", "lots")
    with pytest.raises(ConfigError, match=r"--ipc: .* got 'lots' \(from the environment\)"):
        parse(["--method", "noise"])


@pytest.mark.parametrize(
    ("name", "near"), [("GUARD_RUN_TEACHER_EPOCHS", "GUARD_RUN_TEACHER__EPOCHS"), ("GUARD_RUN_IPCC", "GUARD_RUN_IPC")]
)
def test_a_misspelt_environment_variable_is_not_passed_over(
    name: str, near: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "3")
    with pytest.raises(ConfigError, match=f"The environment variable {name} is no setting") as caught:
        parse(["--method", "noise"])
    assert f"Did you mean {near}?" in caught.value.do


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--no-guard", "--guard.weight", "2"], "--guard.weight would do nothing: --no-guard leaves"),
        (["--teacher.training", "pgd", "--guard.every", "2"], "--guard.every would do nothing: --teacher.training pgd"),
    ],
)
def test_settings_of_a_hook_that_is_left_out_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(["--method", "noise", *flags])


def test_h_may_be_given_without_the_hook_since_curvature_is_measured_there() -> None:
    assert parse(["--method", "noise", "--no-guard", "--guard.h", "1"]).config.guard.h == 1


@pytest.mark.parametrize("name", ["GUARD_RUN_RECOVER__ITERATIONS", "GUARD_RUN_NOISE__SCALE", "GUARD_RUN_SEED__X"])
def test_variables_of_other_methods_are_passed_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "5")
    assert parse(["--method", "noise"]).config.seed == 0


def test_a_section_that_is_no_section_is_explained_beside_no_guard() -> None:
    with pytest.raises(ConfigError, match="--guard"):
        parse(["--method", "noise", "--no-guard", "--guard", "5"])


@pytest.mark.parametrize("training", ["[pgd]", "{}"])
def test_an_objective_that_is_no_name_is_explained(training: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"method: noise\nteacher: {{training: {training}}}\n")
    with pytest.raises(ConfigError, match=r"--teacher\.training"):
        parse(["--config", str(file)])


def test_a_file_with_the_hook_s_settings_may_be_run_without_it(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("method: noise\nguard: {weight: 2.0}\n")
    assert not parse(["--config", str(file), "--no-guard"]).config.guarded


def test_several_problems_are_reported_together() -> None:
    with pytest.raises(ConfigError, match="The configuration is not valid") as caught:
        configure("noise", ipc=0, seed=-1)
    assert "--ipc" in caught.value.seen
    assert "--seed" in caught.value.seen


def test_a_method_must_not_shadow_a_shared_option() -> None:
    from guard_baselines.noise import Noise
    from guard_plugins.config import run_config_class
    from guard_plugins.method import MethodConfig

    class Config(MethodConfig):
        ipc: int = 3

    class Shadow(Noise):
        pass

    Shadow.Config = Config
    with pytest.raises(PluginError, match="'noise' defines options that guard-run already has: ipc"):
        run_config_class(Shadow)
