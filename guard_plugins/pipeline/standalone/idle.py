"""Options of guard-eval that would do nothing for the data set or the students that were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guard_plugins.artifacts.weights.published import is_published
from guard_plugins.config.explain import flag
from guard_plugins.errors import ConfigError
from guard_plugins.host import PluginHost
from guard_plugins.host.effects import of_data

if TYPE_CHECKING:
    from guard_plugins.config import RunConfig
    from guard_plugins.pipeline.standalone.request import EvaluationRequest


def refuse_idle(request: EvaluationRequest, config: RunConfig, host: PluginHost) -> None:
    """Refuse what has no effect, as guard-run does.

    Args:
        request: What was asked for.
        config: The resolved configuration.
        host: The loaded plugins.

    Raises:
        ConfigError: If an option would do nothing.
    """
    for idle in of_data(config, host.datasets[config.dataset]):
        weights = idle.path == ("download",) and _downloads_weights(request)
        if _given(request, idle.path) and not weights:
            raise ConfigError(f"{flag(idle.path)} would do nothing: {idle.why}", do=idle.do)
    if request.distilled is None:
        return
    if request.student.temperature is not None and (why := _no_temperature(request, config, host)):
        raise ConfigError(f"--student.temperature would do nothing: {why}", do="Leave it out.")
    if request.student.mixup and config.student.cutmix:
        raise ConfigError("--student.mixup would do nothing: CutMix takes its place (--student.cutmix)",
            do="Give --student.cutmix 0 for MixUp, or leave it out.",
        )  # fmt: skip


def _given(request: EvaluationRequest, path: tuple[str, ...]) -> bool:
    section = request if len(path) == 1 else getattr(request, path[0])
    return path[-1] in section.model_fields_set and bool(getattr(section, path[-1]))


def _downloads_weights(request: EvaluationRequest) -> bool:
    return any(path is not None and is_published(path) for path in (request.checkpoint, request.teacher.path))


def _no_temperature(request: EvaluationRequest, config: RunConfig, host: PluginHost) -> str:
    labels = request.student.labels
    if labels is None and request.teacher.path is None:
        labels = "hard"
    if labels == "hard":
        return "the students learn from hard labels (--student.labels)"
    recipe = host.recipes[config.student.protocol].recipe
    if labels != "own" and recipe.loss in ("mse", "cosine"):
        return f"students of the recipe {config.student.protocol} compare logits (--student.protocol)"
    return ""
