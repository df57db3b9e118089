"""What `guard_plugins.run` returns: the report, and the run's images and models a call away."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Final

from pydantic import PrivateAttr
from torch import Tensor

from guard_plugins.artifacts.folder import RunFolder
from guard_plugins.artifacts.formatting import percent, radius
from guard_plugins.artifacts.report import Report, read_report
from guard_plugins.artifacts.sets.open_set import load_distilled
from guard_plugins.artifacts.teacher import load_teacher, read_card
from guard_plugins.config.layers import files_of
from guard_plugins.config.paths import usable_path
from guard_plugins.config.sources import yaml_file
from guard_plugins.errors import ConfigError
from guard_plugins.files import regular
from guard_plugins.host import PluginHost
from guard_plugins.networks.base import NetworkRequest
from guard_plugins.networks.normalised import Normalised
from guard_plugins.report.comparison import shown_kinds
from guard_plugins.report.gate import failures
from guard_plugins.report.markdown import KINDS
from guard_plugins.runtime.engine import ordinary

LARGEST: Final = 2**20
"""Bytes of the largest contact sheet that is shown in a notebook."""
GONE: Final = "It was moved or deleted since; put it back."
"""What to do where a file that the run had written is missing."""


class Run(Report):
    """A finished run: every field of its report, and what lies in its folder."""

    _folder: Path = PrivateAttr(default=Path())

    @classmethod
    def of(cls, report: Report, folder: Path) -> Run:
        """Return the run with this report in this folder."""
        made = cls.model_construct(**{name: getattr(report, name) for name in Report.model_fields})
        made._folder = folder.absolute()  # the program may enter another one
        return made

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Return the finished run in a folder.

        Args:
            path: Its folder, such as ``runs/digits``.

        Raises:
            ConfigError: If there is no finished run.
            DamagedError: If its report is damaged.
        """
        folder = RunFolder(usable_path(Path(path)))
        folder.require_finished()
        return cls.of(read_report(folder.report), folder.path)

    @property
    def folder(self) -> Path:
        """Where the run's files are, an absolute path."""
        return self._folder

    @property
    def images(self) -> Tensor:
        """The distilled images in [0, 1], float32 of shape (N, C, H, W)."""
        return load_distilled(self._folder).images

    @property
    def labels(self) -> Tensor:
        """Their classes, int64 of shape (N,)."""
        return load_distilled(self._folder).labels

    def teacher(self) -> Normalised:
        """Return the teacher in eval mode: pixels in [0, 1] in, logits out.

        Raises:
            ConfigError: If the method has none.
        """
        path = RunFolder(self._folder).teacher
        if not path.is_file():
            do = f"The method {self.method} trains none." if self.models.teacher is None else GONE
            raise ConfigError(f"The run in {self._folder} has no teacher", do=do)
        return _model(path, self._folder)

    def student(self, number: int = 0, *, hard: bool = False) -> Normalised:
        """Return a student in eval mode, from a run that was asked to keep them.

        Args:
            number: Which one.
            hard: Whether to return one that learned hard labels from the PNGs.

        Raises:
            ConfigError: If it was not kept.
        """
        path = RunFolder(self._folder).student(number, hard=hard)
        if not path.is_file():
            raise ConfigError(
                f"The run in {self._folder} kept no {path.name}",
                do="Run it with keep_students=True (--keep-students); --student.count says how many there are."
                if self._folder.is_dir()
                else GONE,
            )
        return _model(path, self._folder)

    def __repr__(self) -> str:
        """Say what it is in a line."""
        student = self.models.student
        return f"<Run {self.method} on {self.dataset}: student {percent(student.clean)} % clean, {self._folder}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the accuracies and the images for a notebook."""
        columns = [(entry.attack, entry.norm, entry.eps) for entry in self.models.student.robust if entry.eps]
        head = "".join(f"<th>{html.escape(f'{attack} {radius(eps, norm)}')}</th>" for attack, norm, eps in columns)
        rows = []
        for kind, label in KINDS.items():
            model = getattr(self.models, kind)
            if model is not None and kind in shown_kinds([self]):
                known = {(e.attack, e.norm, e.eps): percent(e.accuracy, e.sd) for e in model.robust}
                cells = [percent(model.clean, model.sd), *(known.get(column, "") for column in columns)]
                rows.append(f"<tr><th>{label}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
        failed = "".join(f"<p>{html.escape(line)}</p>" for line in failures(self))
        return (
            f"<p>{html.escape(repr(self)[1:-1])}</p>{failed}<table><tr><th></th><th>clean</th>{head}</tr>"
            f"{''.join(rows)}</table>{_picture(RunFolder(self._folder).contact_sheet)}"
        )


def _picture(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > LARGEST:
        return ""
    data = base64.b64encode(regular(path).read_bytes()).decode()
    style = "image-rendering: pixelated; min-width: 320px"
    return f'<img alt="distilled images" style="{style}" src="data:image/png;base64,{data}">'


def _model(path: Path, folder: Path) -> Normalised:
    """Return the model in a file that a run wrote; the file holds the normalisation."""
    card = read_card(path)
    request = NetworkRequest(
        image_shape=card.image_shape, classes=len(card.classes), activation=card.activation,  # type: ignore[arg-type]
    )  # fmt: skip
    channels = card.image_shape[0]
    files = files_of([yaml_file(RunFolder(folder).config)])
    network = PluginHost(only=[], files=files).networks[card.network]()
    with ordinary():
        model = Normalised(network.build(request), mean=[0.0] * channels, std=[1.0] * channels)
        load_teacher(path, model, card)
    return model.eval()
