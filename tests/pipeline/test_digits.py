"""What the default job on digits must show: robust students, images that carry the information, honest baselines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from guard_plugins import Report, configure, run
from guard_plugins.artifacts.sets.distilled import load_pngs
from guard_plugins.artifacts.teacher import TeacherCard, load_teacher, read_card
from guard_plugins.data.base import DataRequest
from guard_plugins.host import PluginHost
from guard_plugins.networks.normalised import Normalised, build_normalised

pytestmark = pytest.mark.slow

EPS = 16 / 255
Runs = Callable[[str], tuple[Report, Path]]
SETTINGS = {
    "hook": {"method": "sre2l"},
    "plain": {"method": "sre2l", "no_guard": True},
    "noise": {"method": "noise"},
    "random": {"method": "random"},
    "other seed": {"method": "noise", "no_guard": True, "seed": 1, "student": {"epochs": 1}, "ipc": 1},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return a function that does a named run once; the baselines reuse the teacher of the run under the hook."""
    done: dict[str, tuple[Report, Path]] = {}

    def get(name: str) -> tuple[Report, Path]:
        if name not in done:
            folder = tmp_path_factory.mktemp("digits") / name.replace(" ", "-")
            reused = {"teacher": str(get("hook")[1] / "teacher.safetensors")} if name in ("noise", "random") else {}
            done[name] = run(configure(**SETTINGS[name], **reused, output=folder)), folder  # type: ignore[arg-type]
        return done[name]

    return get


def test_the_student_is_accurate_and_robust(runs: Runs) -> None:
    student = runs("hook")[0].models.student
    assert student.clean >= 0.95
    assert student.at(EPS) >= 0.72


def test_the_hook_is_what_makes_it_robust(runs: Runs) -> None:
    # 11 points where it was measured; 8 leave room for the rounding of other processors.
    assert runs("hook")[0].models.student.at(EPS) - runs("plain")[0].models.student.at(EPS) >= 0.08


def test_the_images_carry_the_information(runs: Runs) -> None:
    assert runs("hook")[0].models.student_hard.clean >= 0.60
    distilled = load_pngs(runs("hook")[1] / "distilled").as_floats()
    judge = plain_teacher(runs("other seed")[1] / "teacher.safetensors")
    with torch.no_grad():
        recognised = (judge(distilled.images).argmax(1) == distilled.labels).float().mean()
    assert recognised >= 0.90


def test_the_baselines_are_floor_and_yardstick(runs: Runs) -> None:
    noise, random = runs("noise")[0].models, runs("random")[0].models
    assert noise.student_hard.clean <= 0.25
    assert noise.student_hard.clean < runs("hook")[0].models.student_hard.clean
    assert random.student_hard.clean >= 0.85


def plain_teacher(path: Path) -> Normalised:
    """Return the teacher of a run, rebuilt from its file."""
    host, card = PluginHost(only=["noise"]), read_card(path)
    data = host.datasets["digits"]().load(DataRequest())
    model = build_normalised(host.networks[card.network](), data)
    expected = TeacherCard(
        network=card.network, activation=card.activation, image_shape=data.image_shape, classes=data.classes
    )
    load_teacher(path, model, expected)
    return model.eval()
