"""One process's share of a stage, in a run that others work on too; nothing but its items is written."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.config import RunConfig
from guard_plugins.errors import ConfigError
from guard_plugins.host.configure import host_of
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.preparation import prepare
from guard_plugins.pipeline.runner import fingerprint_of
from guard_plugins.pipeline.stage import Stage
from guard_plugins.pipeline.stages import STAGES
from guard_plugins.pipeline.stages.evaluation import EvaluationStage
from guard_plugins.pipeline.students.validation import require_one_process
from guard_plugins.runtime.engine import repeatable
from guard_plugins.runtime.memory import memory_asked_by
from guard_plugins.runtime.seeds import preserved_streams
from guard_plugins.runtime.sharing.shares import Share, ShareDone
from guard_plugins.runtime.signals import StoppedError, StopRequest

KEEPS_LOOPS: Final = "students"
"""The stage whose results are in the states of its loops only."""


def do_share(path: Path, config: RunConfig, share: Share, stage: str) -> ShareDone:
    """Make a share of a stage's items, and return how many were made and what is missing.

    Processes with other shares may be at work at the same time, on any host that sees the folder.

    Args:
        path: The folder of the run.
        config: What its ``config.yaml`` holds.
        share: Which items to make.
        stage: Name of the stage, such as ``distill``.

    Raises:
        GuardError: If an earlier stage is not finished, the stage has no items, or anything else is wrong.
    """
    if stage == "distill":
        require_one_process(config)
    with preserved_streams(), repeatable(), StopRequest().listening() as stop:
        run = RunContext.start(prepare(config, host_of(config)), RunFolder(path), stop, share=share)
        try:
            return make_share(run, stage)
        except StoppedError as error:
            raise StoppedError(error.number, do="Start the same share again: finished items are kept.") from None


def make_share(run: RunContext, stage: str) -> ShareDone:
    """Make a process's share of a stage's items, from the files of the earlier stages.

    Args:
        run: The run, with a share.
        stage: Name of the stage.

    Raises:
        GuardError: As for :func:`do_share`.
    """
    names = [known.name for known in STAGES]
    for earlier in STAGES[: names.index(stage)]:
        if earlier.needed(run):
            _restore(run, earlier)
    return _made(run, STAGES[names.index(stage)])


def make_ahead(run: RunContext) -> ShareDone:
    """Make a process's share of the attacks on the teacher, which need no set.

    Args:
        run: The run, with a share; its teacher is finished.

    Raises:
        GuardError: As for :func:`do_share`.
    """
    stages = {stage.name: stage for stage in STAGES}
    _restore(run, stages["teacher"])
    evaluation = stages["evaluation"]
    assert isinstance(evaluation, EvaluationStage)
    try:
        with memory_asked_by(evaluation.memory_option):
            evaluation.ahead(run)
    except ShareDone as done:
        return done
    raise AssertionError("a process with a share ends when its items are made")


def _restore(run: RunContext, stage: Stage) -> None:
    run.checkpoints.inputs = fingerprint_of(run, stage)
    if stage.name == KEEPS_LOOPS:
        stage.do(run)
    elif run.ledger.why_redo(stage.name, run.checkpoints.inputs) is None:
        stage.restore(run)
    else:
        raise ConfigError(
            f"The stage {stage.name} of the run in {run.folder.path} is not finished, so later ones cannot be shared",
            do=f"Finish it first: guard-run --resume {run.folder.path} --stop-after {stage.name}",
        )


def _made(run: RunContext, stage: Stage) -> ShareDone:
    run.checkpoints.inputs = fingerprint_of(run, stage)
    if not stage.needed(run):
        raise ConfigError(f"This run has no stage {stage.name} (--stage)", do="Leave its shares out.")
    if run.ledger.hashes(stage.name) and run.ledger.why_redo(stage.name, run.checkpoints.inputs) is None:
        return ShareDone(0, [])
    memory = memory_asked_by(stage.memory_option) if stage.memory_option else contextlib.nullcontext()
    try:
        with memory:
            stage.share(run)
    except ShareDone as done:
        return done
    raise ConfigError(
        f"The work of the stage {stage.name} does not come in items, so it cannot be shared (--shard)",
        seen=f"--method {run.config.method}",
        do=f"Let one process do it: guard-run --resume {run.folder.path} --stop-after {stage.name}",
    )
