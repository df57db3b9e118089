"""The whole job from configuration to report, new or resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from guard_plugins.artifacts.atomic import write_text
from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.lock import locked
from guard_plugins.artifacts.report import Report
from guard_plugins.config import RunConfig
from guard_plugins.host.configure import configure, host_of
from guard_plugins.method import Method
from guard_plugins.pipeline.console import announce_estimate, conclude, introduce
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.preparation import Prepared, prepare
from guard_plugins.pipeline.runner import do_stages, restored
from guard_plugins.pipeline.stages import STAGES
from guard_plugins.runtime.engine import repeatable
from guard_plugins.runtime.monitor import Callback
from guard_plugins.runtime.seeds import preserved_streams
from guard_plugins.runtime.signals import StoppedError, StopRequest


def run(
    config: RunConfig | Mapping[str, Any] | type[Method], *, callback: Callback | None = None, **settings: Any
) -> Report:
    """Do the whole job and leave its artifacts in ``config.output``.

    The caller's random streams are left as found.

    Args:
        config: From :func:`guard_plugins.configure`, or a mapping of its arguments (``{"method": "sre2l"}``), or a
            method's class.
        callback: Called with every event of ``events.jsonl``, and with the numbers of every step. One that raises is
            not called again.
        **settings: Of a class: its run's options, as for :func:`guard_plugins.configure`.

    Returns:
        What ``report.json`` holds.

    Raises:
        GuardError: If anything is wrong; the message says what, what was seen, and what to do.
    """
    if isinstance(config, type):
        config = configure(config, **settings)
    elif not isinstance(config, RunConfig):
        config = configure(**config, **settings)
    with preserved_streams(), repeatable():
        prepared = prepare(config, host_of(config))
        folder = RunFolder.create(config.output or RunFolder.default(config.method, config.dataset))
        write_text(folder.config, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        return _work(prepared, folder, callback)


def resume(path: Path, config: RunConfig) -> Report:
    """Go on with a run that was stopped or killed; a finished one only returns its report.

    Args:
        path: The folder of the run.
        config: What its ``config.yaml`` holds.

    Raises:
        GuardError: If there is no run, another process is at work on it, or anything else is wrong.
    """
    with preserved_streams(), repeatable():
        return _work(prepare(config, host_of(config)), RunFolder(path))


def _work(prepared: Prepared, folder: RunFolder, callback: Callback | None = None) -> Report:
    with locked(folder.path), StopRequest().listening() as stop:
        try:
            run = RunContext.start(prepared, folder, stop, [callback] if callback else [])
            if restored(run, STAGES):
                run.task.monitor.say(f"the run in {folder.path} was finished before; nothing is done again")
            else:
                introduce(run)
                announce_estimate(run)
                do_stages(run, STAGES)
            conclude(run)
        except StoppedError as error:
            raise StoppedError(error.number, do=f"Go on with: guard-run --resume {folder.path}") from None
        return run.results.report
