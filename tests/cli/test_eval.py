"""guard-eval as a shell sees it."""

from __future__ import annotations

import itertools
import json
import pickle
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from guard_plugins.artifacts.evaluation import Evaluation
from guard_plugins.artifacts.report import Report
from guard_plugins.cli import eval as command
from tests.pipeline.conftest import do_tiny_run

FEW = ["--evaluation.images", "20"]
SMALL = ["--teacher.network", "small-resnet", *FEW]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return do_tiny_run(tmp_path_factory.mktemp("eval") / "run", "random")[1]


def table(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_a_run_s_teacher_is_measured_as_the_run_measured_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "found.html"
    assert command.main([str(run / "teacher.safetensors"), *FEW, "--output", str(output)]) == 0
    found = Evaluation.model_validate_json(output.with_suffix(".json").read_text())
    teacher = Report.model_validate_json((run / "report.json").read_text()).models.teacher
    assert teacher is not None
    assert (found.kind, found.model) == ("teacher", teacher)  # every attack, from the same random starts
    assert found.guard is not None
    rows = table(capsys.readouterr().out)
    assert rows[0][:3] == ["model", "clean", "pgd-20x5 Linf 1/255"]
    assert rows[2][:2] == ["teacher", f"{100 * teacher.clean:.1f}"]
    html = output.read_text()
    assert "Release gate" in html
    assert "<script" not in html
    assert "style-src 'sha256-" in html


@pytest.mark.parametrize("wrap", ["plain", "module", "inside", "normalised", "safetensors"])
def test_state_dicts_however_saved_give_the_same_numbers(
    run: Path, tmp_path: Path, wrap: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load_file(run / "teacher.safetensors")
    inner = {name.removeprefix("network."): value for name, value in whole.items() if name.startswith("network.")}
    path = tmp_path / ("weights.safetensors" if wrap == "safetensors" else "weights.pth")
    if wrap == "safetensors":
        save_file(inner, path)
    else:
        torch.save(
            {
                "plain": inner, "module": {f"module._orig_mod.{name}": value for name, value in inner.items()},
                "inside": {"epoch": 3, "state_dict": inner}, "normalised": whole,
            }[wrap],
            path,
        )  # fmt: skip
    assert command.main([str(path), *SMALL, "--evaluation.protocol", "fgsm", "--output", str(tmp_path / "x.json")]) == 0
    assert command.main([str(run), *FEW, "--evaluation.protocol", "fgsm", "--output", str(tmp_path / "y.json")]) == 0
    x, y = (json.loads((tmp_path / name).read_text()) for name in ("x.json", "y.json"))
    assert x["model"] == y["model"]
    assert capsys.readouterr().out.count("fgsm") > 0


def test_the_normalisation_given_is_inside_the_model(run: Path, tmp_path: Path) -> None:
    whole = load_file(run / "teacher.safetensors")
    save_file(
        {name[8:]: value for name, value in whole.items() if name.startswith("network.")}, tmp_path / "w.safetensors"
    )
    found = []
    for mean in ("0.3", "1"):
        arguments = [
            str(tmp_path / "w.safetensors"),
            *SMALL,
            "--evaluation.protocol",
            "fgsm",
            "--teacher.mean",
            mean,
            "--teacher.std",
            "0.05",
        ]
        assert command.main([*arguments, "--output", str(tmp_path / "x.json")]) == 0
        found.append(json.loads((tmp_path / "x.json").read_text())["model"]["clean"])
    assert found[0] > 0.5 > found[1]


def test_students_of_a_distilled_set_as_mean_and_deviation(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--distilled",
        str(run),
        "--student.count",
        "2",
        "--student.epochs",
        "2",
        "--evaluation.protocol",
        "fgsm",
        *FEW,
    ]
    assert command.main([*arguments, "--output", str(tmp_path / "x.json")]) == 0
    assert table(capsys.readouterr().out)[2][0] == "2 students"
    found = Evaluation.model_validate_json((tmp_path / "x.json").read_text())
    assert (found.kind, found.model.models) == ("student", 2)
    assert found.model.sd is not None
    again = [
        "--distilled",
        str(run / "distilled"),
        "--student.network",
        "convnet3",
        "--student.epochs",
        "1",
        "--evaluation.protocol",
        "fgsm",
        *FEW,
    ]
    output = tmp_path / "soft.json"
    assert command.main([*again, "--teacher", str(run / "teacher.safetensors"), "--output", str(output)]) == 0
    gates = [found.gate, Evaluation.model_validate_json(output.read_text()).gate]
    adaptive = [next(item for item in gate if item.name.startswith("adaptive")) for gate in gates]
    assert adaptive[0].verdict == "not run"
    assert "+teacher breaks" in adaptive[1].figure


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never run",)


def test_bad_input_ends_with_code_2_and_one_message(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.pt").write_bytes(pickle.dumps(Payload()))
    torch.save({"evil": Payload()}, "worse.pt")
    torch.save([1, 2], "list.pt")
    torch.save({"fc.weight": torch.zeros(3, 3)}, "other.pt")
    Path("broken.safetensors").write_bytes(b"nonsense")
    teacher = str(run / "teacher.safetensors")
    for arguments, message in [
        ([], "Give either a checkpoint or --distilled"),
        ([teacher, "--distilled", str(run)], "Give either a checkpoint or --distilled"),
        ([teacher, "--student.count", "3"], "--student.count belongs to students"),
        (["--distilled", str(run), "--teacher.network", "resnet18"], "--teacher.network belongs to a checkpoint"),
        ([teacher, "--student.labels", "stored"], "--student.labels belongs to students"),
        (
            ["--distilled", str(run), "--student.labels", "stored", "--teacher", teacher],
            "--student.labels stored and --teacher exclude",
        ),
        (["--distilled", str(run), "--student.labels", "stored"], "comes with no soft labels (--student.labels)"),
        ([teacher, "--evaluation.images", "0"], "--evaluation.images: Input should be greater than 0"),
        ([teacher, "--output", "x.txt"], "must be a .json or .html file"),
        (["missing.pt", *SMALL], "There is no checkpoint missing.pt"),
        (["."], "The folder . holds no teacher.safetensors"),
        (["broken.safetensors", *SMALL], "not a readable safetensors file"),
        (["other.pt"], "does not say which network"),
        (["other.pt", *SMALL], "do not fit the network"),
        (["other.pt", "--teacher.network", "resnet19"], "Did you mean 'resnet18'"),
        (
            [teacher, "--teacher.network", "resnet18"],
            "says itself that its network is small-resnet, but --teacher.network says resnet18",
        ),
        (
            [teacher, "--teacher.activation", "gelu"],
            "says itself that its activation is relu, but --teacher.activation says gelu",
        ),
        ([teacher, "--teacher.mean", "0.5"], "says itself what its mean is, but --teacher.mean says 0.5"),
        (["list.pt", *SMALL], "holds no state dict"),
        (["evil.pt", *SMALL], "evil.pt"),
        (["worse.pt", *SMALL], "holds more than weights"),
        (["other.pt", *SMALL, "--teacher.mean", "0.1", "0.2"], "--teacher.mean needs one number"),
        (["other.pt", *SMALL, "--teacher.std", "0"], "--teacher.std must not be zero"),
        ([teacher, "--evaluation.protocol", "qick"], "Did you mean 'quick'"),
        ([teacher, "--dataset", "nope"], "Unknown data set 'nope'"),
        (["--distilled", "missing"], "There is no distilled set missing"),
        (["--distilled", str(run), "--student.protocol", "nope"], "Unknown recipe 'nope' (--student.protocol)"),
    ]:
        assert command.main(arguments) == 2, arguments
        captured = capsys.readouterr()
        assert captured.err.count("error: ") == 1, arguments
        assert message in captured.err, arguments
        assert "Traceback" not in captured.err
        assert captured.out == "", arguments


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["x.pt", "--student.count", "3"]])
def test_help_and_contradictions_do_not_import_torch(arguments: list[str]) -> None:
    code = (
        f"import sys\nfrom guard_plugins.cli.eval import main\ntry: main({arguments!r})\n"
        "except SystemExit: pass\nassert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_attack_alone_at_radii_of_choice_and_a_preset(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "found.json"
    arguments = [
        str(run / "teacher.safetensors"),
        *FEW,
        "--evaluation.protocol",
        "pgd-3",
        "--evaluation.eps",
        "8",
        "16",
        "--preset",
        "fast",
    ]
    assert command.main([*arguments, "--output", str(output)]) == 0
    found = Evaluation.model_validate_json(output.read_text())
    assert [(entry.attack, round(entry.eps * 255, 6)) for entry in found.model.robust] == [("pgd-3", 8), ("pgd-3", 16)]
    assert found.protocol == "pgd-3"
    assert command.main([*arguments[:-1], "fats"]) == 2
    assert "fats" in capsys.readouterr().err


def test_the_preset_decides_the_student(run: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "digits.json", tmp_path / "fast.json"]
    for output in outputs:
        arguments = [
            "--distilled",
            str(run),
            "--student.epochs",
            "1",
            "--evaluation.protocol",
            "fgsm",
            "--evaluation.eps",
            "8",
            *FEW,
        ]
        assert command.main([*arguments, "--preset", output.stem, "--output", str(output)]) == 0
    ours, other = (Evaluation.model_validate_json(output.read_text()).model for output in outputs)
    assert ours != other


@pytest.fixture
def bits(tmp_path: Path) -> list[str]:
    """Return the options of another data set: two classes of coloured 8x8 noise."""
    for split, label, copy in itertools.product(("train", "test"), ("cat", "dog"), range(3)):
        path = tmp_path / "my data" / split / label / f"{copy}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), 60).convert("RGB").save(path)
    return ["--dataset", "folder", "--data-root", str(tmp_path / "my data")]


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Return what guard-eval says of arguments that it refuses."""
    assert command.main([str(argument) for argument in arguments]) in (1, 2)
    return capsys.readouterr().err


def test_files_of_another_data_set_say_which(
    run: Path, bits: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for subject in ([run], [run / "teacher.safetensors"], ["--distilled", run], ["--distilled", run / "distilled"]):
        said = complaint(capsys, *subject, *bits)
        assert "does not fit the data set 'folder' (--dataset" in said
        assert "do:   Give --dataset digits, without --data.image-size.\n" in said
        assert "--teacher" not in said
    seen = "images (1, 8, 8), 10 classes (0, 1, 2, ...); the data set has (3, 8, 8), 2 classes (cat, dog)"
    assert seen in complaint(capsys, run, *bits)
    alone = tmp_path / "alone.safetensors"
    shutil.copy(run / "teacher.safetensors", alone)
    for text in (None, "{", "[]", "data: 3"):
        if text is not None:
            (tmp_path / "config.yaml").write_text(text)
        assert "Give --dataset and --data-root of the data it was made from" in complaint(capsys, alone, *bits)
    (tmp_path / "config.yaml").write_text("{dataset: folder, data_root: my data, data: {image_size: 32}}")
    assert "Give --dataset folder --data-root 'my data' --data.image-size 32." in complaint(capsys, alone, *bits)


@pytest.mark.parametrize("network", [[], SMALL])
def test_what_is_no_checkpoint_is_called_so(
    network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "x.yaml").write_text("method: dc")
    (tmp_path / "x.pt").write_bytes(random.Random(0).randbytes(1000))
    (tmp_path / "empty.pth").touch()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x/notes.txt", "no tensors")
    for path in tmp_path.iterdir():
        said = complaint(capsys, path, *network)
        assert f"{path} is no checkpoint\n" in said
        assert "--teacher.network" not in said


def test_distilled_images_given_as_weights_are_sent_to_the_right_option(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for network in ([], SMALL):
        said = complaint(capsys, run / "distilled" / "distilled.safetensors", *network)
        assert "holds distilled images, not weights" in said
        assert f"guard-eval takes it as --distilled {run}.\n" in said


def test_the_advice_to_read_a_file_unsafely_is_never_passed_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"evil": Payload()}, tmp_path / "new.pt")
    torch.save({"evil": Payload()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Payload()))
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), str(tmp_path / "script.pt"))
    torch.save([torch.zeros(9)], tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:300])
    for name, seen in {
        "new.pt": "it refers to print",
        "old.pt": "it refers to print",
        "module.pt": "it refers to torch.nn.modules.linear.Linear",
        "pickle.pt": "it holds what PyTorch's safe reader does not take",
        "script.pt": "it is a TorchScript program",
        "cut.pt": "RuntimeError: PytorchStreamReader failed",
    }.items():
        weights = complaint(capsys, tmp_path / name, *SMALL)
        assert ("holds more than weights" in weights) == (name not in ("script.pt", "cut.pt"))
        assert "torch.save(model.state_dict(), FILE)" in weights
        for said in (weights, complaint(capsys, "--distilled", tmp_path / name)):
            assert f"seen: {seen}" in said.replace("builtins.", "")  # older PyTorch names the module too
            assert "Re-running" not in said
            assert "Weights only load failed" not in said


def test_the_network_that_a_file_says_it_is_may_be_named(run: Path) -> None:
    assert command.main([str(run), *SMALL, "--evaluation.protocol", "fgsm", "--evaluation.eps", "1"]) == 0


def test_a_folder_of_runs_or_of_nothing_is_said_to_be_no_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(capsys, "--distilled", run.parent)
    assert f"{run.parent} is a folder of runs, not a run (--distilled)\n  seen: run\n" in said
    assert f"such as --distilled {run}." in said
    said = complaint(capsys, "--distilled", tmp_path)
    assert f"{tmp_path} holds no distilled set of a known format" in said
    assert "Give a run (its folder holds distilled/ once images are made)" in said
    assert "class000_id000.jpg" in said
