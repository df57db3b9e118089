"""Every process of a run is on record, and looking at the repository runs nothing that it names."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from guard_plugins.data.base import Data
from guard_plugins.data.splits import TensorSplit
from guard_plugins.errors import DamagedError
from guard_plugins.pipeline import git as repository
from guard_plugins.pipeline import manifest
from guard_plugins.pipeline.git import git_state
from guard_plugins.pipeline.manifest import record_process


def git(folder: Path, *arguments: str) -> str:
    own = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", *own, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.txt").write_text("one")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_commit_and_cleanliness_of_an_ordinary_repository(repo: Path, tmp_path: Path) -> None:
    commit = git(repo, "rev-parse", "HEAD").strip()
    git(repo, "remote", "add", "origin", "https://example.org/a.b.git")
    assert git_state(repo) == {"commit": commit, "clean": True}
    (repo / "a.txt").write_text("two")
    assert git_state(repo) == {"commit": commit, "clean": False}
    assert git_state(tmp_path) is None


FOREIGN = {
    "a file watcher": "[core]\n fsmonitor = touch {mark}; false\n",
    "a filter": '[filter "x"]\n clean = touch {mark}; cat\n smudge = cat\n',
    "a process filter": '[filter "x"]\n process = touch {mark}; false\n required = true\n',
    "an included file": "[include]\n path = more\n",
    "a conditional include": '[includeIf "gitdir:**"]\n path = more\n',
    "hooks": "[core]\n hooksPath = hooks\n",
    "an external diff": "[diff]\n external = touch {mark}\n",
    "a text conversion": '[diff "x"]\n textconv = touch {mark}\n',
    "a pager": "[core]\n pager = touch {mark}\n[pager]\n rev-parse = touch {mark}\n config = touch {mark}\n",
    "an ssh command": "[core]\n sshCommand = touch {mark}\n",
    "credentials": "[credential]\n helper = !touch {mark}\n",
    "an alias": "[alias]\n rev-parse = !touch {mark}\n config = !touch {mark}\n",
    "a second file": "[extensions]\n worktreeConfig = true\n",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_nothing_that_a_foreign_repository_names_is_run(kind: str, repo: Path, tmp_path: Path) -> None:
    mark, config = tmp_path / "PWNED", repo / ".git" / "config"
    (repo / ".git" / "more").write_text(FOREIGN["a file watcher"].format(mark=mark))
    (repo / ".git" / "config.worktree").write_text(FOREIGN["a file watcher"].format(mark=mark))
    (repo / ".gitattributes").write_text("* filter=x diff=x\n")
    (repo / "a.txt").write_text("six")  # as long as before, so that git must look inside
    commit = git(repo, "rev-parse", "HEAD").strip()
    config.write_text(config.read_text() + FOREIGN[kind].format(mark=mark))
    assert git_state(repo) == {"commit": commit, "clean": None}
    assert not mark.exists()


def test_the_attacks_of_these_tests_would_work(repo: Path, tmp_path: Path) -> None:
    config = repo / ".git" / "config"
    config.write_text(config.read_text() + FOREIGN["a file watcher"].format(mark=tmp_path / "PWNED"))
    git(repo, "status")
    assert (tmp_path / "PWNED").exists()


def test_without_git_there_is_no_commit(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repo))
    assert repository.git_state(repo) is None


def record(path: Path) -> str:
    return record_process(path, seed=3, entries=[], device={"device": "cpu"}, attacks={})


def test_processes_of_other_versions_are_added_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "manifest.json"
    assert record(path) == ""
    first = json.loads(path.read_text())
    assert record(path) == ""
    assert json.loads(path.read_text()) == first
    monkeypatch.setattr(manifest, "__version__", "9.0")
    monkeypatch.setattr(manifest, "version", lambda name: "2.0" if name == "torch" else "1.0")
    said = record(path)
    assert f"guard-plugins {first['versions']['guard-plugins']} before, 9.0 now" in said
    assert f"torch {first['versions']['torch']} before, 2.0 now" in said
    found = json.loads(path.read_text())
    (resumed,) = found.pop("resumed")
    assert found == first
    assert resumed["versions"]["torch"] == "2.0"
    assert {"created", "command", "plugins", "machine", "git"} < resumed.keys()
    assert record(path) == ""
    monkeypatch.setattr(manifest, "__version__", "9.1")
    assert "guard-plugins 9.0 before, 9.1 now" in record(path)
    assert len(json.loads(path.read_text())["resumed"]) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"resumed": 5}', '{"resumed": [1]}'])
def test_a_damaged_manifest_is_named_and_kept(content: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(DamagedError, match=r"manifest\.json") as caught:
        record(path)
    assert "Delete it" in caught.value.do
    assert path.read_text() == content


@pytest.mark.parametrize("content", [{}, {"versions": 5}, {"versions": None, "machine": []}])
def test_a_manifest_without_versions_counts_as_another_process(content: Any, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert "unknown before" in record(tmp_path / "manifest.json")


def labelled(pixels: torch.Tensor, test: torch.Tensor) -> Data:
    labels = torch.arange(len(pixels)) % 2
    splits = TensorSplit(pixels, labels), TensorSplit(test, torch.zeros(len(test), dtype=torch.long))
    return Data("some", *splits, ("a", "b"), (0.5,), (0.25,), (1, 4, 4))


def test_data_that_changed_are_said_and_data_that_did_not_are_not(tmp_path: Path) -> None:
    path, pixels, test = tmp_path / "manifest.json", torch.rand(6, 1, 4, 4), torch.rand(3, 1, 4, 4)
    (moved := test.clone())[2, 0, 0, 0] += -0.01 if test[2, 0, 0, 0] > 0.5 else 0.01

    def resumed(data: Data | None) -> str:
        return record_process(path, seed=0, entries=[], device={}, attacks={}, data=data)

    assert resumed(None) == ""  # as an earlier version of the project wrote it
    assert resumed(labelled(pixels, test)) == ""
    path.unlink()
    assert resumed(labelled(pixels, test)) == ""
    assert resumed(labelled(pixels.clone(), test)) == ""
    assert json.loads(path.read_text())["data"]["train"] == 6
    assert "other images in the data set" in resumed(labelled(pixels, moved))
    assert resumed(labelled(pixels, moved)) == ""
    assert "other images in the data set" in resumed(labelled(pixels[:4], moved))


def test_large_splits_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_READ_BYTES", 100)
    pixels = torch.rand(6, 1, 4, 4)
    (changed := pixels.clone())[0] = 0.5
    one, other = (manifest.described(labelled(images, pixels[:0])) for images in (pixels, changed))
    assert one["sha256"] != other["sha256"]
