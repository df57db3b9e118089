"""What a run says about itself when it starts and when it ends."""

from __future__ import annotations

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.report import Report, Skipped
from guard_plugins.config import RunConfig
from guard_plugins.config.presets import PRESETS
from guard_plugins.host import PluginHost
from guard_plugins.method import Method
from guard_plugins.pipeline.estimate import LONG, rehearse
from guard_plugins.pipeline.manifest import record_process
from guard_plugins.report.comparison import KINDS
from guard_plugins.report.gate import failures, tally
from guard_plugins.runtime.task import Task

UNSUITED = (
    "no preset is called {dataset!r}, so what you did not set has the defaults of {method}, whatever the size of the "
    "images; --preset fast is for 32-pixel images on a CPU"
)


def introduce(task: Task, folder: RunFolder, host: PluginHost, *, unhooked: str = "") -> None:
    """Record this process in the run's manifest, and say what its user must know before it works.

    Args:
        task: The run's.
        folder: Where it leaves its artifacts.
        host: The loaded plugins; broken ones are named.
        unhooked: Why the curvature hook does not apply, where it was asked for.

    Raises:
        ArtifactError: If the manifest cannot be read or written.
    """
    config: RunConfig = task.config
    changed = record_process(folder.manifest, seed=config.seed, entries=host.entries, device=task.engine.describe())
    if changed:
        task.monitor.say(changed)
    for broken in host.broken.values():
        task.monitor.say(f"warning: plugin {broken.plugin!r} of {broken.origin} is broken: {broken.reason}")
    if unhooked:
        task.monitor.say(unhooked)
    whole = config.model_fields_set >= set(config.model_dump())  # as in a run's config.yaml
    if not whole and config.preset is None and config.dataset not in {*PRESETS, *host.method(config.method).presets}:
        task.monitor.say(UNSUITED.format(dataset=config.dataset, method=config.method))
    skipped = Skipped.of(task.data.skipped)
    if skipped is not None:
        task.monitor.say(f"warning: {skipped.sentence()}")
    task.monitor.say(f"run folder: {folder.path}")


def foretell(task: Task, folder: RunFolder, method: Method) -> None:
    """Say what a new run will take if that is long; a resumed one has its progress to go by.

    Args:
        task: The run's.
        folder: Where its artifacts go.
        method: An instance that may be used up.

    Raises:
        ArtifactError: If the disk lacks the room.
        TrainingError: If there is not enough memory for a stage.
        StoppedError: If the run was asked to stop.
    """
    if folder.stages.exists() or folder.checkpoints.exists():
        return
    estimate = rehearse(task, method)
    estimate.require_room(folder.path)
    if sum(estimate.seconds.values()) > LONG:
        task.monitor.say(estimate.sentence())


def conclude(task: Task, folder: RunFolder, report: Report) -> None:
    """Say what the gate found, what is missing from the data, what the checkpoints cost, and where the report is."""
    for line in failures(report):
        task.monitor.say(line)
    for kind, items in report.gate.items():
        task.monitor.say(f"release gate, {KINDS[kind].lower()}: {tally(items)}")
    if report.skipped is not None:
        task.monitor.say(report.skipped.sentence())
    if report.saves is not None:
        task.monitor.say(report.saves.sentence())
    task.monitor.say(f"report: {folder.report.with_suffix('.html')}")
