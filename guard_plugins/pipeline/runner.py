"""Does the stages of a run in order; knows nothing of what they do."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from guard_plugins.artifacts.ledger import fingerprint
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.stage import Stage
from guard_plugins.runtime.memory import memory_asked_by


def restored(run: RunContext, stages: Sequence[Stage]) -> bool:
    """Read the last stage's result if the run is finished, and return whether it is.

    The last stage's record covers the files of all others, so only it is read.

    Args:
        run: The run; the last stage's part of its results is filled in.
        stages: In their order.
    """
    *_, last = stages
    if run.ledger.why_redo(last.name, fingerprint_of(run, last)) is not None:
        return False
    last.restore(run)
    return True


def do_stages(run: RunContext, stages: Sequence[Stage], *, until: str | None = None) -> None:
    """Do every stage that is not finished; what an earlier process finished is read.

    Args:
        run: The run; its results are filled in.
        stages: In their order.
        until: Name of the last stage to do; all where None.

    Raises:
        StoppedError: If a signal asked to stop.
        GuardError: If anything goes wrong.
    """
    for stage in stages:
        if stage.needed(run):
            _do(run, stage)
            run.finished.append(stage.name)
        if stage.name == until:
            return
    run.checkpoints.forget()


def _do(run: RunContext, stage: Stage) -> None:
    run.checkpoints.inputs = fingerprint_of(run, stage)
    why = run.ledger.why_redo(stage.name, run.checkpoints.inputs)
    if why is None:
        stage.restore(run)
        return
    if why:
        why = _changed_code(run, stage) or why
        run.task.monitor.say(f"{stage.name} is done again: {why}")
    keepsakes = run.task.keeper.keepsakes
    keepsakes.numbers = {}
    keeper = run.task.keeper
    if keeper.ranks is not None:
        keeper.ranks.stage = stage.name
    if keeper.helpers is not None:
        keeper.helpers.stage = stage.name
    memory = memory_asked_by(stage.memory_option) if stage.memory_option else contextlib.nullcontext()
    timing = run.task.monitor.stage(stage.name) if stage.timed else contextlib.nullcontext()
    with timing, memory:
        written = stage.do(run)
    if written is not None:
        own = {"plugins": run.origins(stage.plugins), "reported": keepsakes.numbers}
        notes = {**written.notes, **{name: value for name, value in own.items() if value}}
        run.ledger.finish(stage.name, run.checkpoints.inputs, [*written.files, *keepsakes.files()], **notes)


def fingerprint_of(run: RunContext, stage: Stage) -> str:
    """Return the fingerprint of what a stage depends on."""
    return fingerprint(stage.name, *stage.inputs(run), *run.origins(stage.plugins))


def _changed_code(run: RunContext, stage: Stage) -> str:
    """Say which plugins are not those that a finished stage was done with; empty where all are."""
    before, now = run.ledger.notes(stage.name).get("plugins"), run.origins(stage.plugins)
    if not isinstance(before, list) or before == now:
        return ""
    gone, new = [origin for origin in before if origin not in now], [origin for origin in now if origin not in before]
    return f"the plugin's code changed ({', '.join(gone) or 'none'} before, {', '.join(new) or 'none'} now)"
