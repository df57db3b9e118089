"""One process at a time in a folder, and nothing outside of it is ever touched."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from guard_plugins.artifacts.lock import LOCK, locked
from guard_plugins.errors import ConfigError


def test_it_is_taken_once_and_leaves_nothing(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(ConfigError, match=f"Another process is at work in {tmp_path}"), locked(tmp_path):
            pytest.fail("the lock was taken twice")
        assert (tmp_path / LOCK).exists()
    assert not list(tmp_path.iterdir())
    with locked(tmp_path):
        pass


def test_it_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), locked(tmp_path):
        raise ValueError("mine")
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_lock_that_is_a_link_is_refused_and_its_target_is_whole(link: object, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("gold")
    run = tmp_path / "run"
    run.mkdir()
    assert callable(link)
    link(precious, run / LOCK)
    with pytest.raises(ConfigError, match="is not a lock file of this project") as caught, locked(run):
        pytest.fail("taken")
    assert "Remove it" in caught.value.do
    assert precious.read_text() == "gold"
    assert (run / LOCK).exists()


def test_a_link_made_between_the_look_and_the_opening_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guard_plugins.artifacts import lock

    (tmp_path / "precious").write_text("gold")
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(lock, "_require_own_file", lambda path: path.symlink_to(tmp_path / "precious"))
    with pytest.raises(Exception, match="Cannot write"), locked(tmp_path / "run"):
        pytest.fail("taken")
    assert (tmp_path / "precious").read_text() == "gold"


def test_a_lock_that_is_a_pipe_or_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK)
    with pytest.raises(ConfigError, match="is not a lock file"), locked(tmp_path):
        pytest.fail("taken")
    (tmp_path / LOCK).unlink()
    (tmp_path / LOCK).mkdir()
    with pytest.raises(ConfigError, match="is not a lock file"), locked(tmp_path):
        pytest.fail("taken")


def test_a_lock_removed_by_hand_and_taken_by_another_is_not_removed_from_it(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / LOCK).unlink()
        (tmp_path / LOCK).write_text("another's")
    assert (tmp_path / LOCK).read_text() == "another's"


def test_half_written_files_are_removed_and_nothing_else(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    (run / "distilled" / "0_a").mkdir(parents=True)
    elsewhere.mkdir()
    mine = [run / "report.json.part", run / "distilled" / "0_a" / "00001.png.part"]
    kept = [run / "movie.mkv.part", run / "thesis.part", elsewhere / "report.json.part"]
    for path in (*mine, *kept):
        path.write_text("x")
    (run / "x.json.part").mkdir()
    (run / "linked.json.part").symlink_to(kept[2])
    with locked(run):
        assert not any(path.exists() for path in mine)
        assert not (run / "linked.json.part").is_symlink()
    assert all(path.exists() for path in kept)
    assert (run / "x.json.part").is_dir()


def test_a_folder_within_that_is_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    (run / "checkpoints").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="checkpoints is a link to a folder elsewhere") as caught, locked(run):
        pytest.fail("taken")
    assert str(elsewhere) in caught.value.seen
    (tmp_path / "other").symlink_to(run)
    (run / "checkpoints").unlink()
    with locked(tmp_path / "other"):
        pass


def compete(folder: Path, seconds: float, found: multiprocessing.Queue[tuple[int, int]]) -> None:
    """Take the lock as often as possible, and count how often another one was in."""
    taken = clashes = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with locked(folder):
                taken += 1
                try:
                    descriptor = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)
                except FileExistsError:
                    clashes += 1
                else:
                    os.close(descriptor)
                    (folder / "inside").unlink()
        except ConfigError:
            continue
    found.put((taken, clashes))


def test_two_holders_never_get_in_while_the_lock_file_comes_and_goes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[tuple[int, int]] = context.Queue()
    processes = [context.Process(target=compete, args=(tmp_path, 1.0, found)) for _ in range(4)]
    for process in processes:
        process.start()
    counts = [found.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert sum(taken for taken, _ in counts) > 50
    assert sum(clashes for _, clashes in counts) == 0
