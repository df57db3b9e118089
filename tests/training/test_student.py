"""The student's loss against its definition, and what students may see."""

from __future__ import annotations

import torch

from guard_plugins.training.student import soft_label_loss


def test_the_soft_label_loss_is_the_kl_of_tempered_softmaxes_without_t_squared() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(5, 3, generator=generator), torch.randn(5, 3, generator=generator)
    total = 0.0
    for s, t in zip(student.double(), teacher.double(), strict=True):
        p, q = (torch.exp(x / 20) / torch.exp(x / 20).sum() for x in (t, s))
        total += float((p * (p / q).log()).sum())
    found = soft_label_loss(student, teacher, 20.0)
    assert abs(float(found) - total / 5) < 1e-6
