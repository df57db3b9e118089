"""``guard-plugins export``: a run's distilled set in a format of other code bases, with a card beside it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from guard_plugins.cli.paths import path_argument
from guard_plugins.errors import ConfigError, DamagedError
from guard_plugins.files import regular

if TYPE_CHECKING:
    from guard_plugins.artifacts.folder import RunFolder
    from guard_plugins.artifacts.report import Report
    from guard_plugins.data.distilled import DistilledSet

_EIGHT_BITS: Final = "Pixels are rounded to 8 bits"
PRECISION: Final[Mapping[str, str]] = {
    "dc": "A .pt file of DC's format: float images normalised with mean {mean} and deviation {std}, "
    "equal to the run's up to the rounding of floats (2e-7); soft labels are left out.",
    "dd-ranking": "`images.pt` and `labels.pt` hold the run's float images and labels exactly (logits where the set "
    "has soft labels).",
    "sre2l": f"PNG files in SRe2L's layout. {_EIGHT_BITS}; soft labels are left out.",
    "parquet": f"A Parquet file for `datasets.load_dataset`. {_EIGHT_BITS} (PNG); soft labels are kept as logits.",
}
"""Formats, and what each rounds or leaves out."""
SOFT: Final = frozenset({"dd-ranking", "parquet"})
"""Those that keep soft labels."""

README: Final = "README.md"
PARQUET_FILE: Final = "data/train-00000-of-00001.parquet"


def add_export(commands: Any) -> None:
    """Add the sub-command to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="write a run's distilled set in another format: guard-plugins export RUN --format dc ...",
        description="Write a run's distilled set in a format of other code bases, with a card.",
    )
    parser.add_argument("run", type=path_argument, metavar="RUN", help="folder of a run with distilled images")
    parser.add_argument("--format", required=True, choices=tuple(PRECISION), help="format to write")
    parser.add_argument(
        "--output",
        type=path_argument,
        required=True,
        metavar="PATH",
        help="folder to write; for dc a file ending in .pt",
    )


def export(run: Path, name: str, output: Path) -> int:
    """Write the set and its card, say where, and return 0.

    Args:
        run: Folder of a run.
        name: Name of the format.
        output: Folder, or file for ``dc``.

    Raises:
        GuardError: If the run has no images yet, the output exists, or something cannot be read or written.
    """
    from guard_plugins.artifacts.atomic import write_text
    from guard_plugins.artifacts.folder import RunFolder
    from guard_plugins.artifacts.formats import whole, write_dc
    from guard_plugins.artifacts.sets.distilled import load_distilled
    from guard_plugins.artifacts.teacher import read_card
    from guard_plugins.report.dataset_card import Exported, dataset_card

    folder, run_config = RunFolder(run), _configuration(run)
    _require_new(output, name)
    distilled = load_distilled(folder.distilled)
    teacher = read_card(folder.teacher) if folder.teacher.is_file() else None
    classes = teacher.classes if teacher else _classes(folder, distilled)
    mean, std = _statistics(folder, run_config) if name == "dc" else ((), ())
    precision = PRECISION[name].format(mean=_listed(mean), std=_listed(std))
    exported = Exported(
        distilled=distilled, classes=classes, config=run_config, report=_report(folder), teacher=teacher,
        format=name, precision=precision, soft=name in SOFT,
    )  # fmt: skip
    card = dataset_card(exported)
    beside = output.with_suffix(".md") if name == "dc" else output / README
    if name == "dc":
        write_dc(output, distilled.decoded(), mean=mean, std=std)
        write_text(beside, card)
    else:
        with whole(output) as part:
            _write(name, part, distilled.decoded(), classes)
            write_text(part / README, card)
    sys.stdout.write(f"{output}\n{beside}\n")
    return 0


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _write(name: str, output: Path, distilled: DistilledSet, classes: tuple[str, ...]) -> None:
    from guard_plugins.artifacts import formats
    from guard_plugins.artifacts.atomic import made
    from guard_plugins.data.images.tables import need_pyarrow

    if name == "dd-ranking":
        formats.write_dd_ranking(output, distilled)
    elif name == "sre2l":
        formats.write_sre2l(output, distilled)
    else:
        need_pyarrow()
        made((output / PARQUET_FILE).parent)
        formats.write_parquet(output / PARQUET_FILE, distilled, classes)


def _configuration(run: Path) -> dict[str, Any]:
    """Return a run's stored configuration.

    Raises:
        ConfigError: If there is none, it is damaged, or the run has no images yet.
    """
    import yaml

    from guard_plugins.artifacts.sets.distilled import TENSORS
    from guard_plugins.config.yaml_file import read_yaml

    if not (run / "config.yaml").is_file() or not (run / "distilled" / TENSORS).is_file():
        raise ConfigError(
            f"There is no run with a distilled set in {run}", seen=f"config.yaml or distilled/{TENSORS} is missing",
            do="Give the folder of a run with distilled images, such as runs/sre2l-digits-...",
        )  # fmt: skip
    try:
        content = read_yaml(run / "config.yaml")
    except (OSError, ValueError, yaml.YAMLError) as error:
        content = str(error).splitlines()[0]
    if not isinstance(content, dict):
        raise ConfigError(f"{run / 'config.yaml'} is damaged", seen=str(content)[:200], do="Give another run.")
    return content


def _require_new(output: Path, name: str) -> None:
    """Refuse an output that exists, or does not suit the format, before anything is written."""
    from guard_plugins.artifacts.formats.unfinished import require_finished

    require_finished(output)
    if name == "dc" and output.suffix != ".pt":
        raise ConfigError("The output of the format dc is a file ending in .pt (--output)", seen=str(output))
    files = [output, output.with_suffix(".md")] if name == "dc" else [output]
    for path in files:
        if path.is_file() or (path.is_dir() and (name == "dc" or any(path.iterdir()))):
            raise ConfigError(
                f"{path} exists (--output)", do="Choose another path; nothing is overwritten.",
            )  # fmt: skip
    if not output.parent.is_dir():
        raise ConfigError(f"There is no folder {output.parent} (--output)", do="Make it first, or choose another.")


def _classes(folder: RunFolder, distilled: DistilledSet) -> tuple[str, ...]:
    """Return the classes' names as the metadata of the images have them, in the order of the labels.

    Raises:
        DamagedError: If they are damaged.
    """
    from guard_plugins.artifacts.sets.distilled import METADATA

    file, names = folder.distilled / METADATA, {}
    try:
        for line in regular(file).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            names[int(row["label"])] = str(row["class"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"{file} is damaged", seen=f"{type(error).__name__}: {error}") from error
    return tuple(names.get(label, str(label)) for label in range(int(distilled.labels.max()) + 1))


def _report(folder: RunFolder) -> Report | None:
    """Return the results of a run, or None where it is not finished.

    Raises:
        DamagedError: If they are damaged.
    """
    from guard_plugins.artifacts.report import read_report

    return read_report(folder.report) if folder.report.is_file() else None


def _statistics(folder: RunFolder, config: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation that normalise the run's images: its teacher's, or those of its data set.

    Raises:
        GuardError: If the data set cannot be loaded.
    """
    from safetensors import SafetensorError, safe_open

    if folder.teacher.is_file():
        try:
            with safe_open(regular(folder.teacher), framework="pt") as file:
                mean, std = (tuple(file.get_tensor(name).flatten().tolist()) for name in ("mean", "std"))
            return mean, std
        except (OSError, SafetensorError) as error:
            raise DamagedError(f"{folder.teacher} is damaged", seen=str(error)) from error
    from pydantic import ValidationError

    from guard_plugins.config.schema import RunConfig
    from guard_plugins.host import PluginHost

    try:
        run = RunConfig.model_validate({k: v for k, v in config.items() if k in RunConfig.model_fields})
    except ValidationError as error:
        raise ConfigError(f"{folder.config} is damaged", seen=str(error).splitlines()[0]) from error
    data = PluginHost(only=[]).datasets[run.dataset]().load(run.data_request())
    return data.mean, data.std
