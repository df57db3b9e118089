"""Every option of every shipped method changes the outcome of a run, or is refused with that method."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from guard_plugins import configure
from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.config import RunConfig, TeacherConfig
from guard_plugins.config.layers import merged
from guard_plugins.errors import ConfigError
from guard_plugins.host import PluginHost
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.preparation import prepare
from guard_plugins.pipeline.runner import do_stages, fingerprint_of
from guard_plugins.pipeline.stages import STAGES
from guard_plugins.runtime.engine import repeatable
from guard_plugins.runtime.signals import StopRequest

DIST = "guard-plugins"
TINY: dict[str, Any] = {
    "ipc": 2,
    "device": "cpu",
    "data": {"train_per_class": 12, "test_per_class": 2},
    "student": {"epochs": 2, "batch_size": 10},
}
OWN: dict[str, dict[str, Any]] = {
    "sre2l": {"teacher": {"epochs": 1, "batch_size": 40}, "recover": {"iterations": 4}},
    "cda": {"teacher": {"epochs": 1, "batch_size": 40}, "recover": {"iterations": 4}},
    "dc": {"match": {"iterations": 1, "outer": 2, "inner": 1, "real_batch": 8, "batch": 10}},
    "random": {"teacher": {"epochs": 1, "batch_size": 40}},
    "noise": {"teacher": {"epochs": 1, "batch_size": 40}},
    "centres": {"teacher": {"epochs": 1, "batch_size": 40}},
}

ELSEWHERE = {
    "method": "is the case's own",
    "dataset": "its data sets have tests of their own",
    "data_root": "says where files are",
    "download": "says where files come from",
    "device": "equal numbers are the aim",
    "preset": "only gives other options values",
    "checkpoint_every": "costs time, changes no number: tests/pipeline/test_resume.py",
    "output": "says where files go",
    "log": "shows numbers, changes none: tests/runtime/test_callbacks.py",
    "plugin": "says where code is: tests/host/test_plugin_file.py",
    "keep_students": "leaves files, changes no number: tests/pipeline/test_result.py",
    "teacher.path": "replaces the teacher: tests/pipeline/test_run.py",
    "teacher.cache": "says where teachers are kept: tests/pipeline/test_several_teachers.py",
    "teacher.batchnorm": "for several processes: tests/training/test_parts.py",
    "teacher.mean": "for weights of other code bases: tests/artifacts/weights/test_foreign.py",
    "teacher.std": "for weights of other code bases: tests/artifacts/weights/test_foreign.py",
    "teacher.classes": "for weights of other code bases: tests/artifacts/weights/test_foreign.py",
    "evaluation.protocol": "chooses the attacks: tests/evaluation/test_protocols.py",
    "evaluation.images": "chooses the images: tests/evaluation/test_attack_batch.py",
    "evaluation.eps": "chooses the radii: tests/host/test_attack_as_protocol.py",
    "evaluation.gate": "leaves checks out: tests/report/test_runs.py",
    "evaluation.batch_size": "costs memory, changes no verdict: tests/evaluation/test_attack_batch.py",
    "data.validation_per_class": "chooses the images that are attacked: tests/data/test_validation.py",
    "data.test_per_class": "chooses test images, which nothing here reads: tests/data",
    "data.skip_corrupt": "needs files: tests/data/test_skip_corrupt.py",
    "data.split": "needs files: tests/data/images/test_deep_and_damaged.py",
    "data.memory": "costs memory, changes no image: tests/data/datasets/test_folder.py",
    "data.cache": "says where decoded images are kept: tests/data/images/test_packed.py",
    "data.reduced_decode": "needs files: tests/data/images/test_reduced.py",
    "teacher.crop_from": "needs files: tests/training/test_crops.py",
    "data.range": "needs files: tests/data/images/test_deep_and_damaged.py",
    "distill.validate_every": "changes no number: tests/pipeline/test_validation.py",
    "student.labels": "online and stored give the same students: tests/pipeline/test_stored_labels.py; own others: "
    "tests/pipeline/test_own_labels.py",
}
"""Options whose effect is on something else than teacher, images and students, and who shows it."""

REFUSED: dict[str, set[str]] = {
    "sre2l": set(),
    "cda": set(),
    "dc": {
        *(
            f"teacher.{name}"
            for name in TeacherConfig.model_fields
            if name not in ("network", "activation", "path") and f"teacher.{name}" not in ELSEWHERE
        ),
        "teacher.network",
        "student.temperature",
        "student.feature_weight",
    },
    "random": set(),
    "noise": set(),
    "centres": set(),
}
"""Options that do nothing with a method, whatever stands beside them."""

BESIDE: dict[str, dict[str, Any]] = {
    "guard.h": {"guard": {"h_rms": None}},
    "student.guard_h_rms": {"student": {"guard_weight": 1.0}},
    "teacher.eps": {"teacher": {"training": "fgsm-rs"}},
    "teacher.attack_steps": {"teacher": {"training": "pgd"}},
    "teacher.rival_weight": {"teacher": {"training": "trades"}},
    "student.cutmix": {"student": {"protocol": "one-cycle"}},
    "match.strategy": {"match": {"augment": "dsa"}},
    "recover.patch_scale": {"recover": {"start": "real"}},
    "recover.mix_copies": {"recover": {"batch": 15}},
    "recover.jitter": {"recover": {"crop_scale": 1.0}},
}
"""What an option needs beside it to have anything to do."""

VALUES: dict[str, Any] = {
    "recover.batch": 8,
    "student.network": "convnet3", "student.protocol": "dc", "student.augment": "crop-flip", "teacher.augment": "crop",
    "teacher.network": "convnet3-bn", "match.network": "convnet3-bn", "match.strategy": "color", "guard.h": 0.5,
    "student.guard_h_rms": 0.2,
    "recover.precision": "bfloat16", "teacher.schedule": "cosine", "guard.penalty": "gradient", "data.image_size": 12,
    "data.validation_per_class": 3, "student.activation": "silu", "teacher.activation": "gelu", "guard.every": 2,
    "student.count": 2, "student.cutmix": 1.0, "student.mixup": 0.3, "student.weight_decay": 0.3, "student.epochs": 3,
    "student.batch_size": 7, "student.lr": 0.02, "student.temperature": 3.0, "teacher.training": "fgsm-rs",
    "teacher.rival_weight": 2.0, "recover.jitter": 1, "seed": 5, "match.distance": "mse", "curriculum.shape": "step",
}  # fmt: skip


SECOND = {"student.protocol": "one-cycle", "match.network": "convnet3", "student.network": "small-resnet"}
"""What to take where the value above is in use already."""


def options(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every option by its dotted name, with its default."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from options(kind, f"{above}{name}.")
        else:
            yield f"{above}{name}", field.get_default()


def other(name: str, value: Any) -> Any:
    """A value that differs from the one in use."""
    if name in VALUES and VALUES[name] != value:
        return VALUES[name]
    if name in SECOND:
        return SECOND[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 if value else 0.5
    if value == "noise":
        return "real"
    if value == "none":
        return "dsa"
    raise AssertionError(f"the test needs another value for {name}, which is {value!r}")


def nested(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return dict(value)


def at(config: RunConfig, name: str) -> Any:
    found: Any = config
    for part in name.split("."):
        found = getattr(found, part)
    return found


def outcome(config: RunConfig, folder: Path) -> tuple[str, tuple[str, ...]]:
    """Hash of teacher, distilled set and students, and the fingerprints of the stages that made them."""
    digest = hashlib.sha256()
    with repeatable():
        prepared = prepare(config, PluginHost(only=[config.method]))
        folder.mkdir()
        run = RunContext.start(prepared, RunFolder(folder), StopRequest())
        stages = [stage for stage in STAGES if stage.name in ("teacher", "distill", "relabel", "students")]
        do_stages(run, stages)
        fingerprints = tuple(fingerprint_of(run, stage) for stage in stages if stage.needed(run))
    for models in run.results.models.values():
        for model in models:
            for tensor in model.state_dict().values():
                digest.update(tensor.numpy().tobytes())
    digest.update(run.results.distilled.images.numpy().tobytes())
    return digest.hexdigest(), fingerprints


def refusal(method: str, settings: dict[str, Any]) -> str:
    """Why these settings are refused; empty where they are not."""
    try:
        configure(method, **settings)
    except ConfigError as error:
        return error.what
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(OWN))
def test_every_option_has_an_effect_or_is_refused(method: str, tmp_path: Path) -> None:
    base = merged(TINY, OWN[method])
    whole = PluginHost(only=[method]).method(method)
    names = [name for kind in (RunConfig, whole.Config) for name, _ in options(kind) if name not in ELSEWHERE]
    known: dict[str, tuple[str, tuple[str, ...]]] = {}

    def result(settings: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        config = configure(method, **settings)
        key = config.model_dump_json()
        if key not in known:
            known[key] = outcome(config, tmp_path / str(len(known)))
        return known[key]

    idle, refused, unseen = [], [], []
    for name in names:
        without = merged(base, BESIDE.get(name, {}))
        value = other(name, at(configure(method, **base), name))
        settings = merged(without, nested(name, value))
        if refusal(method, settings):
            refused.append(name)
            continue
        (numbers, inputs), (before, inputs_before) = result(settings), result(without)
        if numbers == before:
            idle.append(name)
        if inputs == inputs_before:
            unseen.append(name)
    assert not idle, f"no effect: {idle}"
    assert not unseen, f"in no stage's fingerprint, so that a resumed run would not notice: {unseen}"
    assert len(known) > 15
    assert set(refused) == REFUSED[method]


def test_no_shipped_method_and_no_option_is_passed_over() -> None:
    shipped = {point.name for point in entry_points(group="guard_plugins") if point.dist and point.dist.name == DIST}
    assert shipped == OWN.keys() == REFUSED.keys()
    own = [options(PluginHost(only=[method]).method(method).Config) for method in OWN]
    known = {name for names in (options(RunConfig), *own) for name, _ in names}
    assert set().union(ELSEWHERE, BESIDE, VALUES, SECOND, *REFUSED.values()) <= known
    for reason in ELSEWHERE.values():
        for named in re.findall(r"tests/[a-z_/]+(?:\.py)?", reason):
            assert (Path(__file__).parents[2] / named).exists(), named
