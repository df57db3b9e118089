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
from guard_plugins.host import PluginHost
from guard_plugins.host.configure import configure
from guard_plugins.pipeline.console import announce_estimate, conclude, introduce
from guard_plugins.pipeline.context import RunContext
from guard_plugins.pipeline.preparation import Prepared, prepare
from guard_plugins.pipeline.runner import do_stages, restored
from guard_plugins.pipeline.shares import require_no_shares
from guard_plugins.pipeline.stages import STAGES
from guard_plugins.runtime.engine import repeatable
from guard_plugins.runtime.seeds import preserved_streams
from guard_plugins.runtime.signals import StoppedError, StopRequest


def run(config: RunConfig | Mapping[str, Any]) -> Report:
    """Do the whole job and leave its artifacts in ``config.output``.

    The caller's random streams are left as found.

    Args:
        config: From :func:`guard_plugins.configure`, or a mapping of its arguments (``{"method": "sre2l"}``).

    Returns:
        What ``report.json`` holds.

    Raises:
        GuardError: If anything is wrong; the message says what, what was seen, and what to do.
    """
    config = config if isinstance(config, RunConfig) else configure(**config)
    with preserved_streams(), repeatable():
        return _work(*_new(config)).results.report


def resume(path: Path, config: RunConfig) -> Report:
    """Go on with a run that was stopped or killed; a finished one only returns its report.

    Args:
        path: The folder of the run.
        config: What its ``config.yaml`` holds.

    Raises:
        GuardError: If there is no run, another process is at work on it, or anything else is wrong.
    """
    with preserved_streams(), repeatable():
        return _work(prepare(config, PluginHost()), RunFolder(path)).results.report


def do_until(stage: str, config: RunConfig, resumed: Path | None = None) -> None:
    """Do a run up to a stage, and stop there: others may then share the next stage, or the run be resumed.

    Args:
        stage: Name of the last stage to do, such as ``teacher``.
        config: The resolved configuration.
        resumed: The folder of the run to go on with; a new one where None.

    Raises:
        GuardError: As :func:`run` and :func:`resume`.
    """
    with preserved_streams(), repeatable():
        begun = _new(config) if resumed is None else (prepare(config, PluginHost()), RunFolder(resumed))
        _work(*begun, until=stage)


def _new(config: RunConfig) -> tuple[Prepared, RunFolder]:
    prepared = prepare(config, PluginHost())
    folder = RunFolder.create(config.output or RunFolder.default(config.method, config.dataset))
    write_text(folder.config, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    return prepared, folder


def _work(prepared: Prepared, folder: RunFolder, until: str | None = None) -> RunContext:
    require_no_shares(folder)
    with locked(folder.path), StopRequest().listening() as stop:
        try:
            run = RunContext.start(prepared, folder, stop)
            if restored(run, STAGES):
                run.task.monitor.say(f"the run in {folder.path} was finished before; nothing is done again")
            else:
                introduce(run)
                announce_estimate(run)
                do_stages(run, STAGES, until=until)
                if until is not None:
                    run.task.monitor.say(f"{until} is finished; go on with: guard-run --resume {folder.path}")
                    return run
            conclude(run)
        except StoppedError as error:
            raise StoppedError(error.number, do=f"Go on with: guard-run --resume {folder.path}") from None
        return run
