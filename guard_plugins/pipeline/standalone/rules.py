"""Which of guard-eval's options go together; found out before anything slow is imported."""

from __future__ import annotations

from guard_plugins.config.explain import flag
from guard_plugins.config.nearest import nearest
from guard_plugins.config.presets import PRESETS
from guard_plugins.config.section import Section
from guard_plugins.errors import ConfigError
from guard_plugins.pipeline.standalone.request import EvaluationRequest


def require_consistent(request: EvaluationRequest) -> None:
    """Refuse what contradicts itself or would have no effect.

    Raises:
        ConfigError: If nothing or too much is asked for, an option has nothing to act on, or the output cannot be
            written.
    """
    _require_one_subject(request)
    _refuse_without_subject(request)
    _require_labels(request)
    _require_preset(request.preset)
    if request.student.guard_h_rms is not None and not request.student.guard_weight:
        raise ConfigError(
            "--student.guard-h-rms has no effect: the students are trained without the hook",
            do="Give --student.guard-weight, too.",
        )
    if request.student.feature_weight and request.teacher.path is None:
        raise ConfigError(
            "--student.feature-weight has no effect: there is no teacher whose features students could match",
            do="Give its file, or its run, with --teacher, or leave the option out.",
        )
    if request.data.train_per_class and not request.data.validation_per_class:
        raise ConfigError(
            "--data.train-per-class has no effect here: nothing is trained on real images",
            do="Leave it out, or attack held-out training images with --data.validation-per-class.",
        )
    output = request.output
    if output is not None and (output.suffix not in (".json", ".html") or not output.parent.is_dir()):
        raise ConfigError(
            "The output must be a .json or .html file in a folder that exists (--output)", seen=str(output)
        )


def _require_one_subject(request: EvaluationRequest) -> None:
    if (request.checkpoint is None) == (request.distilled is None):
        raise ConfigError(
            "Give either a checkpoint or --distilled", seen="both" if request.checkpoint else "neither",
            do="For example: guard-eval runs/hook/teacher.safetensors, or guard-eval --distilled runs/hook",
        )  # fmt: skip


def _refuse_without_subject(request: EvaluationRequest) -> None:
    if request.checkpoint is not None:
        wrong = _given(request.student, "student") + (["--teacher"] if request.teacher.path else [])
        subject, do = "students of a distilled set", "Leave it out, or give --distilled in place of the checkpoint."
    elif request.teacher.path is None:
        wrong = _given(request.teacher, "teacher")
        subject, do = "a checkpoint or a teacher", "Leave it out, or give the teacher of the students with --teacher."
    else:
        return
    if wrong:
        raise ConfigError(f"{', '.join(wrong)} belongs to {subject}", do=do)


def _given(section: Section, name: str) -> list[str]:
    """Return the flags of a section that were given."""
    return [flag((name, field)) for field in type(section).model_fields if field in section.model_fields_set]


def _require_labels(request: EvaluationRequest) -> None:
    labels, teacher = request.student.labels, request.teacher.path
    if labels == "online" and teacher is None:
        raise ConfigError("--student.labels online needs a --teacher to ask", do="Give its file, or its run.")
    if labels in ("hard", "stored", "own") and teacher is not None:
        raise ConfigError(
            f"--student.labels {labels} and --teacher exclude each other",
            do="A teacher computes soft labels at every step; give one of the two options.",
        )


def _require_preset(name: str | None) -> None:
    if name is not None and name not in PRESETS:
        near = nearest(name, PRESETS)
        raise ConfigError(
            f"There is no preset {name!r} (--preset)", seen=f"known: {', '.join(sorted(PRESETS))}",
            do=f"Did you mean {near!r}?" if near else "Pick one of these, or leave --preset out.",
        )  # fmt: skip
