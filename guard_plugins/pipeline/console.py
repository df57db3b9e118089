"""What a run says about itself when it starts and when it ends."""

from __future__ import annotations

from guard_plugins.artifacts.report import Skipped
from guard_plugins.attacks.base import display_names
from guard_plugins.config.presets import PRESETS
from guard_plugins.labels.relabel import storage_cost
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.manifest import record_process
from guard_plugins.pipeline.planning.estimate import LONG, duration, estimate_run
from guard_plugins.pipeline.plugin_calls import HOOK_DOES_NOT_APPLY
from guard_plugins.pipeline.preparation import build_method
from guard_plugins.pipeline.standalone.radii import doubtful_radius
from guard_plugins.report.comparison import KINDS
from guard_plugins.report.gate import failures, learned_nothing, stronger_command, tally

NO_PRESET = (
    "There is no preset for the data set {dataset!r}: options you did not set have the defaults of {method}, which do "
    "not look at the size of the images. --preset fast is for 32-pixel images on a CPU."
)


def introduce(run: RunContext) -> None:
    """Record this process in the run's manifest, and say what its user must know before it works.

    Raises:
        ArtifactError: If the manifest cannot be read or written, or the disk lacks room for labels to be stored.
    """
    config, host, say = run.config, run.prepared.host, run.task.monitor.say
    changed = record_process(
        run.folder.manifest, seed=config.seed, entries=host.entries, device=run.task.engine.describe(),
        parts=run.prepared.parts, attacks=display_names(host.attacks), data=run.prepared.data,
    )  # fmt: skip
    if changed:
        say(changed)
    for broken in host.broken.values():
        say(f"warning: plugin {broken.plugin!r} of {broken.origin} is broken: {broken.reason}")
    if run.prepared.hook_does_not_apply:
        say(HOOK_DOES_NOT_APPLY.format(name=config.method))
    whole = config.model_fields_set >= set(config.model_dump())  # as in a run's config.yaml
    if not whole and config.preset is None and config.dataset not in {*PRESETS, *run.prepared.method.presets}:
        say(NO_PRESET.format(dataset=config.dataset, method=config.method))
    if doubt := doubtful_radius(run.prepared.protocol, host.attacks):
        say(doubt)
    skipped = Skipped.of(run.prepared.data.skipped)
    if skipped is not None:
        say(f"warning: {skipped.sentence()}")
    for note in run.prepared.data.notes:
        say(f"note: {note}")
    say(f"run folder: {run.folder.path}")
    if config.student.labels == "stored" and not run.folder.labels.exists():
        say(storage_cost(run.task, run.folder.labels))


def announce_estimate(run: RunContext) -> None:
    """Say what a new run will take if that is long; a resumed run has its progress to go by.

    Raises:
        ArtifactError: If the disk lacks the room.
        TrainingError: If there is not enough memory for a stage.
        StoppedError: If the run was asked to stop.
    """
    if run.folder.stages.exists() or run.folder.checkpoints.exists():
        return
    method, _ = build_method(run.config, run.prepared.host)
    estimate = estimate_run(run.task, method)
    estimate.require_room(run.folder.path)
    if sum(estimate.seconds.values()) > LONG:
        for line in filter(None, (estimate.sentence(), estimate.shorter())):
            run.task.monitor.say(line)
    every = run.config.distill.validate_every
    if every is not None:
        one = estimate.seconds.get("students", 0.0) / (2 * run.config.student.count)
        run.task.monitor.say(
            f"validation: a student of about {duration(one)} and an attack, every {every} steps of the method's loops "
            "and at their ends; no estimate counts them"
        )


def conclude(run: RunContext) -> None:
    """Say what the gate found, what is missing from the data, what the checkpoints cost, and where the report is."""
    report, say = run.results.report, run.task.monitor.say
    failed = failures(report)
    for line in [*failed, next_step(run)] if failed else []:
        say(line, at="quiet")
    for line in learned_nothing(report):
        say(line)
    if run.config.evaluation.gate == "off":
        say("release gate: not run (--evaluation.gate off), so the numbers are not checked")
    for kind, items in report.gate.items() if any(report.gate.values()) else ():
        say(f"release gate, {KINDS[kind].lower()}: {tally(items) or 'not run'}")
        for item in items:
            say(f"  {item.verdict}: {item.name}: {item.figure}", at="verbose")
    if report.skipped is not None:
        say(report.skipped.sentence())
    if report.saves is not None:
        say(report.saves.sentence(), at="verbose")


def next_step(run: RunContext) -> str:
    """Return what to do after the release gate failed: the same run under stronger attacks, where there are any."""
    protocol, teacher = run.config.evaluation.protocol, run.prepared.method.uses_teacher
    command = stronger_command(run.folder.path, protocol, teacher=teacher)
    if not command:
        return "  do:    find the cause before you quote the numbers: docs/evaluation.md, The release gate"
    takes = " (minutes on digits)" if run.config.dataset == "digits" else ""
    return f"  do:    attack the same run more strongly{takes}: {command}"
