"""Loops of one name: the second would find the state of the first, and do nothing in silence."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from guard_plugins.errors import PluginError
from guard_plugins.runtime.keeping.checkpoints import Checkpoints
from guard_plugins.runtime.keeping.keeper import Keeper
from guard_plugins.runtime.loop import LoopState, steps
from guard_plugins.runtime.monitor import Monitor
from guard_plugins.runtime.seeds import Seeds
from tests.pipeline.conftest import do_tiny_run

METHOD = """
import torch
from guard_plugins import DistilledSet, LoopState, Method

class Mine(Method):
    \"\"\"A loop for each class.\"\"\"

    name, summary, guarded, uses_teacher, labels = "mine", "text", (), False, "hard"

    def distill(self, task, teacher):
        labels, done = torch.arange(task.classes).repeat_interleave(task.ipc), 0
        images = torch.rand((len(labels), *task.data.image_shape), generator=task.seeds.generator("mine"))
        for label in range(3):
            for step in task.steps({name}, {total}, state=LoopState(images=images)):
                done += 1
        task.report(done=done)
        return DistilledSet(images, labels)
"""


def done(name: str, keeper: Keeper) -> int:
    loop = steps(
        name, 4, state=LoopState(n=torch.zeros(1)), seeds=Seeds(0), monitor=Monitor(), device=torch.device("cpu"),
        keeper=keeper,
    )  # fmt: skip
    return len(list(loop))


def test_a_name_is_taken_once_in_a_stage(tmp_path: Path) -> None:
    keeper = Keeper(Checkpoints(tmp_path, every=math.inf))
    assert [done(name, keeper) for name in ("a", "b")] == [4, 4]
    with pytest.raises(PluginError, match=r"task\.steps was called twice for 'a'"):
        done("a", keeper)
    keeper.checkpoints.inputs = "another stage"
    assert done("a", keeper) == 4


def test_a_resumed_process_goes_on_with_the_same_names(tmp_path: Path) -> None:
    assert done("a", Keeper(Checkpoints(tmp_path, every=math.inf))) == 4
    assert done("a", Keeper(Checkpoints(tmp_path, every=math.inf))) == 0


def test_a_loop_within_every_item_needs_the_item_in_its_name(tmp_path: Path) -> None:
    keeper = Keeper(Checkpoints(tmp_path, every=math.inf))
    with keeper.checkpoints.making("recover/0"):
        assert [done("recover/0", keeper), done("inner", keeper)] == [4, 4]
    with keeper.checkpoints.making("recover/1"), pytest.raises(PluginError, match="'inner'"):
        done("inner", keeper)


@pytest.mark.parametrize(
    ("name", "total", "said"),
    [("'mine'", 2, "task.steps was called twice for 'mine'"), ("'mine'", -2, "has fewer than no steps")],
)
def test_a_run_says_so(name: str, total: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(METHOD.format(name=name, total=total))
    with pytest.raises(PluginError, match=said):
        do_tiny_run(tmp_path / "run", "mine", plugin=[str(tmp_path / "mine.py")])


def test_names_with_the_class_in_them_do_all_steps(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(METHOD.format(name='f"mine/{label}"', total=2))
    report, _ = do_tiny_run(tmp_path / "run", "mine", plugin=[str(tmp_path / "mine.py")])
    assert report.reported == {"done": 6}
