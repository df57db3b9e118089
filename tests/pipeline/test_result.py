"""What a run returns to Python."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import guard_plugins
from guard_plugins import Run, configure, load_data, run
from guard_plugins.artifacts.report import read_report
from guard_plugins.cli import eval as evaluation
from guard_plugins.curvature.objective.counters import HookSummary
from guard_plugins.errors import ConfigError


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = {"ipc": 1, "teacher": {"epochs": 1}, "student": {"epochs": 2}, "keep_students": True}
    folder = tmp_path_factory.mktemp("result") / "run"
    quick = {"images": 20, "gate": "off"}
    return run(configure("random", **settings, evaluation=quick, output=str(folder)))


@pytest.mark.slow
def test_a_run_has_every_field_of_its_report_and_what_is_in_its_folder(done: Run) -> None:
    stored = read_report(done.folder / "report.json")
    assert done.model_dump() == stored.model_dump()
    assert (done.images.shape, done.labels.tolist()) == ((10, 1, 8, 8), list(range(10)))
    assert torch.equal(guard_plugins.load_distilled(str(done.folder)).images, done.images)
    again = Run.open(str(done.folder))
    assert (again.model_dump(), again.folder) == (done.model_dump(), done.folder)
    assert torch.equal(again.images, done.images)


def test_only_a_finished_run_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no finished run") as caught:
        Run.open(tmp_path / "none")
    assert "such as runs/" in caught.value.do
    (tmp_path / "config.yaml").write_text("method: random")
    with pytest.raises(ConfigError, match="There is no finished run") as caught:
        Run.open(tmp_path)
    assert f"guard-run --resume {tmp_path}" in caught.value.do


@pytest.mark.slow
def test_its_models_are_those_that_were_measured(done: Run, capsys: pytest.CaptureFixture[str]) -> None:
    test = load_data("digits").test
    index = torch.linspace(0, len(test) - 1, 20).round().long()
    for kind, model in (
        ("teacher", done.teacher()),
        ("student", done.student()),
        ("student_hard", done.student(hard=True)),
    ):
        with torch.no_grad():
            clean = float((model(test.images(index)).argmax(1) == test.labels[index]).float().mean())
        assert clean == pytest.approx(getattr(done.models, kind).clean)
    with pytest.raises(ConfigError, match=r"kept no student-1.safetensors") as caught:
        done.student(1)
    assert "--keep-students" in caught.value.do
    path = str(done.folder / "students/student-0.safetensors")
    assert evaluation.main([path, "--evaluation.protocol=fgsm", "--evaluation.images=20", "--evaluation.gate=off"]) == 0
    assert f"| {100 * done.models.student.clean:.1f} |" in capsys.readouterr().out


@pytest.mark.slow
def test_it_is_short_in_a_console_and_a_table_in_a_notebook(done: Run) -> None:
    assert repr(done).startswith("<Run random on digits: student ")
    assert len(repr(done).splitlines()) == 1
    page = done._repr_html_()
    assert page.count("<tr>") == 4
    assert "data:image/png;base64," in page


def test_a_set_is_found_below_its_run_and_by_its_pictures_alone(tmp_path: Path) -> None:
    from guard_plugins.artifacts.sets.distilled import save_distilled
    from guard_plugins.data.distilled import DistilledSet

    made = DistilledSet(torch.rand(4, 1, 5, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 1]))
    save_distilled(tmp_path / "run/distilled", made, ("one", "two"))
    for path in (tmp_path / "run", str(tmp_path / "run/distilled")):
        assert torch.equal(guard_plugins.load_distilled(path).images, made.images)
    (tmp_path / "run/distilled/distilled.safetensors").unlink()
    rounded = guard_plugins.load_distilled(tmp_path / "run")
    assert torch.equal(rounded.images, (made.images * 255).round() / 255)
    with pytest.raises(ConfigError, match="no distilled set"):
        guard_plugins.load_distilled(tmp_path)


def test_a_set_is_named_by_its_file_too_and_half_of_one_is_refused(tmp_path: Path) -> None:
    from guard_plugins.artifacts.sets.distilled import DistilledSetError, save_distilled
    from guard_plugins.data.distilled import DistilledSet

    made = DistilledSet(torch.rand(4, 1, 5, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 1]))
    save_distilled(tmp_path / "distilled", made, ("one", "two"))
    tensors, metadata = tmp_path / "distilled/distilled.safetensors", tmp_path / "distilled/metadata.jsonl"
    assert torch.equal(guard_plugins.load_distilled(tensors).images, made.images)
    assert torch.equal(guard_plugins.load_distilled(str(metadata)).images, made.as_stored().images)
    tensors.unlink()
    lines = metadata.read_text().splitlines(keepends=True)
    metadata.write_text("".join(lines[:3]))
    with pytest.raises(DistilledSetError, match=r"1 images beside them are not in metadata\.jsonl"):
        guard_plugins.load_distilled(tmp_path)
    metadata.write_text("".join(lines))
    (tmp_path / "distilled/assets").mkdir()
    (tmp_path / "distilled/assets/banner.png").write_bytes(b"another picture")
    assert len(guard_plugins.load_distilled(tmp_path)) == 4
    metadata.write_text("".join([*lines, *lines]))
    with pytest.raises(DistilledSetError, match="8 lines for 4 images"):
        guard_plugins.load_distilled(tmp_path)
    for name in ("~nobody-of-that-name/x", "x" * 300, "a\0b"):
        with pytest.raises(ConfigError, match="no distilled set"):
            guard_plugins.load_distilled(name)


def test_a_hook_s_summary_prints_as_a_table() -> None:
    summary = HookSummary(
        steps=20, regularised_steps=5, backwards=5, mean_loss=1.25, mean_term=0.001234567, mean_gradient_norm=2.0,
        mean_curvature=None, seconds=0.5,
    )  # fmt: skip
    lines = str(summary).splitlines()
    assert lines[0].split() == ["regularised", "steps", "5", "of", "20"]
    assert lines[2].split() == ["mean", "term", "0.001235"]
    assert lines[4].split()[-1] == "–"
    assert len({len(line) for line in lines}) == 1
