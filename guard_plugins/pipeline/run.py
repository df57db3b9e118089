"""The whole job from configuration to report, new or resumed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from guard_plugins._version import __version__
from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.ledger import fingerprint
from guard_plugins.artifacts.lock import locked
from guard_plugins.artifacts.report import Report
from guard_plugins.config import RunConfig
from guard_plugins.config.schema import Level
from guard_plugins.errors import ConfigError
from guard_plugins.host.configure import configure, host_of
from guard_plugins.method import Method
from guard_plugins.pipeline.console import announce_estimate, conclude, introduce
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.cores import Beside, cores_used
from guard_plugins.pipeline.preparation import Prepared, prepare
from guard_plugins.pipeline.result import Run
from guard_plugins.pipeline.runner import do_stages, restored
from guard_plugins.pipeline.stages import STAGES
from guard_plugins.pipeline.students.validation import require_one_process
from guard_plugins.pipeline.teachers.training import require_team
from guard_plugins.runtime.engine import alone, ordinary, repeatable
from guard_plugins.runtime.monitor import Callback
from guard_plugins.runtime.seeds import preserved_streams
from guard_plugins.runtime.sharing.at_work import require_no_shares
from guard_plugins.runtime.sharing.claims import STALE
from guard_plugins.runtime.sharing.ranks import Ranks
from guard_plugins.runtime.signals import StoppedError, StopRequest

PATIENCE: Final = 1.5 * STALE
"""Seconds that several processes wait for those of a killed run on other hosts to be known as gone."""
LEAVES: Final = 3.0
"""Seconds that a run waits for a process that a killed run had started beside it."""


def run(
    config: RunConfig | Mapping[str, Any] | str | type[Method], *, callback: Callback | None = None, **settings: Any
) -> Run:
    """Do the whole job and leave its artifacts in ``config.output``.

    The caller's random streams, default dtype and device, and ``no_grad`` or autocast neither change the numbers nor
    are changed. One thread of a process does a run at a time.

    Args:
        config: From :func:`guard_plugins.configure`, or a mapping of its arguments (``{"method": "sre2l"}``), or a
            method's name or class.
        callback: Called with every event of ``events.jsonl``, and with the numbers of every step. One that raises is
            not called again.
        **settings: Options of the run, as for :func:`guard_plugins.configure`; none beside a whole configuration.

    Returns:
        What ``report.json`` holds, with the run's folder, images and models.

    Raises:
        GuardError: If anything is wrong; the message says what, what was seen, and what to do.
    """
    done = start(_configured(config, settings), callback=callback)
    assert done.report is not None  # no stage was named to stop after
    return Run.of(done.report, done.folder)


def _configured(config: Any, settings: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that :func:`run` was given."""
    if isinstance(config, RunConfig):
        if settings:
            raise ConfigError(
                "A whole configuration takes no further settings", seen=", ".join(settings),
                do="Give them to guard_plugins.configure(), or give run() the method's name: run('sre2l', ipc=10).",
            )  # fmt: skip
        return config
    if isinstance(config, str | type):
        return configure(config, **settings)
    if not isinstance(config, Mapping) or "method" not in config:
        seen = f"keys: {', '.join(map(str, config)) or 'none'}" if isinstance(config, Mapping) else repr(config)[:80]
        raise ConfigError(
            "run() needs a method", seen=seen, do="Give its name: guard_plugins.run('sre2l', ipc=10).",
        )  # fmt: skip
    if twice := config.keys() & settings.keys():
        raise ConfigError(f"A setting is given twice: {', '.join(sorted(twice))}", do="Give it once.")
    return configure(**config, **settings)


def resume(path: str | Path, config: RunConfig) -> Run:
    """Go on with a run that was stopped or killed; a finished one only returns its report.

    Args:
        path: The folder of the run.
        config: What its ``config.yaml`` holds.

    Raises:
        GuardError: If there is no run, another process is at work on it, or anything else is wrong.
    """
    done = start(config, resumed=Path(path))
    assert done.report is not None
    return Run.of(done.report, done.folder)


@dataclass(frozen=True)
class Done:
    """What a command did.

    Attributes:
        folder: The run's folder.
        report: Its results; None where it stopped before there were any.
    """

    folder: Path
    report: Report | None


def start(
    config: RunConfig,
    *,
    resumed: Path | None = None,
    until: str | None = None,
    level: Level = "normal",
    callback: Callback | None = None,
    ranks: Ranks | None = None,
    beside: Beside | None = None,
) -> Done:
    """Do a run, new or resumed, to its end or to the end of a stage.

    Args:
        config: The resolved configuration.
        resumed: The folder of a run to go on with.
        until: Name of the last stage to do.
        level: How much is said on the terminal.
        callback: Called with every event.
        ranks: In the first of several processes: all of them, which share the work.
        beside: Processes that may be started to use idle cores.

    Raises:
        GuardError: If anything is wrong.
    """
    if ranks is not None:
        require_one_process(config)
    callbacks = [] if callback is None else [callback]
    with alone(), ordinary(), preserved_streams(), repeatable():
        prepared = prepare(config, host_of(config))
        if ranks is not None:
            require_team(prepared, ranks.size)
            ranks.ready(settings_of(config))
        if resumed is not None:
            return _work(prepared, RunFolder(resumed), until, level, callbacks, ranks, beside)
        folder = RunFolder.create(config.output or RunFolder.reserve(config.method, config.dataset))
        folder.begin(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        return _work(prepared, folder, until, level, callbacks, ranks, beside)


def settings_of(config: RunConfig) -> str:
    """Return a fingerprint of all settings, but for the folder, and of the project's version."""
    return fingerprint(__version__, config.model_dump(mode="json", exclude={"output"}))


def _work(
    prepared: Prepared,
    folder: RunFolder,
    until: str | None,
    level: Level,
    callbacks: Sequence[Callback],
    ranks: Ranks | None,
    beside: Beside | None,
) -> Done:
    require_no_shares(folder, patience=PATIENCE if ranks is not None else LEAVES)
    stopping = StopRequest().listening(aloud=True) if ranks is None else contextlib.nullcontext(ranks.stop)
    with locked(folder.path), stopping as stop, cores_used(prepared, folder, beside) as helpers:
        try:
            run = RunContext.start(
                prepared, folder, stop, level=level, callbacks=callbacks, ranks=ranks, helpers=helpers
            )
            if restored(run, STAGES):
                run.checkpoints.forget()  # a process that was killed in doing so left some
                run.task.monitor.say(f"the run in {folder.path} was finished before; nothing is done again")
            else:
                introduce(run)
                if ranks is not None:
                    ranks.folder = folder.path
                    run.task.monitor.say(f"{ranks.size} processes share the items; the first does everything else")
                announce_estimate(run)
                if helpers is not None:  # not before: it would be timed along
                    helpers.say = run.task.monitor.say
                    helpers.start()
                do_stages(run, STAGES, until=until)
                if until is not None:
                    run.task.monitor.say(f"stopped after {until}; the rest: guard-run --resume {folder.path}")
                    return Done(folder.path, None)
            conclude(run)
        except StoppedError as error:
            raise StoppedError(error.number, resume=folder.path) from None
        return Done(folder.path, run.results.report)
