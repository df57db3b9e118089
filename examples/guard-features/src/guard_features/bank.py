"""The networks whose features are matched: trained teachers, and snapshots of their training."""

from __future__ import annotations

from guard_plugins import Task, TeacherSpec
from guard_plugins.networks.embedding import Embedding


def declared(teachers: int, snapshots: tuple[int, ...]) -> tuple[TeacherSpec, ...]:
    """Return the teachers to train: a plain one, which runs of other methods share, and others with snapshots."""
    return (TeacherSpec(), *(TeacherSpec(seed=seed, snapshots=snapshots) for seed in range(1, teachers)))


def embeddings(task: Task) -> list[Embedding]:
    """Return the features of all networks: those of every teacher, each after its snapshots.

    Args:
        task: The task, with its trained teachers.
    """
    found = []
    for trained in task.teachers:
        for epoch in trained.spec.snapshots:
            earlier = task.network(stage="snapshot").eval()
            earlier.load_state_dict(trained.at(epoch))
            found.append(Embedding(earlier))
        found.append(Embedding(trained.model))
    return found
