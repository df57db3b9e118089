from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from guard_plugins.errors import DataError
from guard_plugins.evaluation.curvature import measure_curvature, step_along_gradient
from guard_plugins.evaluation.lanczos import lanczos, largest_eigenvalue
from guard_plugins.runtime.seeds import Seeds


def hessians(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The full input Hessian of every image, shape (B, d, d)."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x[None]), y[None])

    full = [torch.func.hessian(loss)(x, y) for x, y in zip(images, labels, strict=True)]
    return torch.stack(full).reshape(len(images), images[0].numel(), images[0].numel())


def smooth_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.SiLU(), nn.Conv2d(6, 6, 3), nn.SiLU(), nn.Flatten(), nn.Linear(96, 5)
    ).double()


@pytest.fixture
def sample() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(6, 1, 8, 8, generator=generator, dtype=torch.float64)
    return images, torch.arange(6) % 5


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_largest_eigenvalue_equals_the_full_hessians(sample: tuple[Tensor, Tensor]) -> None:
    model = smooth_net().eval()
    exact = torch.linalg.eigvalsh(hessians(model, *sample)).abs().amax(1)
    measured = largest_eigenvalue(model, *sample, steps=40, generator=generator())
    torch.testing.assert_close(measured, exact, rtol=1e-6, atol=0)


def test_a_relu_network_needs_no_more_steps_than_classes(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][1300:1308].double(), digits[1][1300:1308]
    model = nn.Sequential(*digits_net).double()
    try:
        exact = torch.linalg.eigvalsh(hessians(model, images, labels)).abs().amax(1)
        measured = largest_eigenvalue(model, images, labels, steps=10, generator=generator())
    finally:
        model.float()
    torch.testing.assert_close(measured, exact, rtol=1e-4, atol=1e-12)


def test_float32_is_close_enough(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][1300:1330], (digits[1][1300:1330] + 1) % 10  # wrong labels: no cancellation
    exact = torch.linalg.eigvalsh(hessians(digits_net, images, labels).double()).abs().amax(1)
    measured = largest_eigenvalue(digits_net, images, labels, steps=20, generator=generator())
    worth = exact > 1e-3 * exact.max()
    torch.testing.assert_close(measured.double()[worth], exact[worth], rtol=1e-2, atol=0)


def test_lanczos_finds_negative_extremes_and_survives_low_rank() -> None:
    eigenvalues = torch.tensor([[3.0, -8.0, 0.5, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    rotation = torch.linalg.qr(torch.randn(3, 5, 5, generator=generator(), dtype=torch.float64)).Q
    matrices = rotation @ torch.diag_embed(eigenvalues.double()) @ rotation.mT
    start = torch.randn(3, 5, generator=generator(), dtype=torch.float64)
    ritz = lanczos(lambda v: torch.einsum("bij,bj->bi", matrices, v), start, steps=9)
    torch.testing.assert_close(ritz.abs().amax(1), torch.tensor([8.0, 2.0, 0.0]).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(ritz[0, 0], torch.tensor(-8.0).double(), atol=1e-9, rtol=0)


def test_power_iteration_would_err_where_lanczos_does_not() -> None:
    matrix = torch.diag(torch.tensor([1.0, -0.999] + [0.5] * 98, dtype=torch.float64))
    vector = torch.ones(1, 100, dtype=torch.float64)
    ritz = lanczos(lambda v: v @ matrix, vector, steps=20)
    for _ in range(20):
        vector = vector @ matrix
        vector = vector / vector.norm()
    rayleigh = float((vector @ matrix @ vector.T).abs())
    assert rayleigh < 0.9  # the two extremes of opposite sign cancel
    assert abs(float(ritz.abs().max()) - 1) < 1e-6


def test_finite_difference_is_that_of_the_definition(sample: tuple[Tensor, Tensor]) -> None:
    model, (images, labels), h = smooth_net().eval(), sample, 0.5
    loss, rise, norm = step_along_gradient(model, images, labels, h=h)
    for i in range(len(images)):
        x, y = images[i : i + 1].clone().requires_grad_(), labels[i : i + 1]
        here = F.cross_entropy(model(x), y)
        (grad,) = torch.autograd.grad(here, x)
        there = F.cross_entropy(model(x + h * grad / grad.norm()), y)
        torch.testing.assert_close(
            torch.stack([loss[i], rise[i], norm[i]]), torch.stack([here, there - here, grad.norm()]).detach()
        )


def test_curvature_along_the_gradient_tends_to_the_hessians(sample: tuple[Tensor, Tensor]) -> None:
    model, (images, labels) = smooth_net().eval(), sample
    result = measure_curvature(model, images, labels, h=1e-3, batch_size=4, seeds=Seeds(0))
    full = hessians(model, images, labels)
    for i in range(len(images)):
        x = images[i : i + 1].clone().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(x), labels[i : i + 1]), x)
        unit = (grad / grad.norm()).flatten()
        torch.testing.assert_close(result.along_gradient[i], unit @ full[i] @ unit, rtol=0.02, atol=1e-4)
    assert (result.along_gradient.abs() <= result.eigenvalue * 1.02 + 1e-4).all()
    radius = 0.01
    expected = result.gradient_norm * radius + result.eigenvalue * radius**2 / 2
    torch.testing.assert_close(result.bound(radius), expected)
    assert (step_along_gradient(model, images, labels, h=radius)[1] <= result.bound(radius) * 1.01).all()


def test_batches_and_training_flags_do_not_matter(sample: tuple[Tensor, Tensor]) -> None:
    model = smooth_net().train()
    whole = measure_curvature(model, *sample, h=0.1, batch_size=6, seeds=Seeds(0), lanczos_steps=64)
    split = measure_curvature(model, *sample, h=0.1, batch_size=4, seeds=Seeds(0), lanczos_steps=64)
    torch.testing.assert_close(whole.eigenvalue, split.eigenvalue, rtol=1e-5, atol=0)
    torch.testing.assert_close(whole.rise, split.rise)
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_attention_has_a_double_backward() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(8, 3)

        def forward(self, images: Tensor) -> Tensor:
            tokens = images.squeeze(1)[:, None]
            mixed = F.scaled_dot_product_attention(tokens, tokens, tokens)
            logits: Tensor = self.out(mixed.mean((1, 2)))
            return logits

    torch.manual_seed(0)
    images, labels = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    model = Attends()
    with sdpa_kernel(SDPBackend.MATH):
        exact = torch.linalg.eigvalsh(hessians(model, images, labels)).abs().amax(1)
    measured = largest_eigenvalue(model, images, labels, steps=40, generator=generator())
    torch.testing.assert_close(measured, exact, rtol=1e-3, atol=1e-6)


def test_refuses_nothing_to_measure(sample: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(DataError, match="at least one image"):
        measure_curvature(smooth_net(), sample[0][:0], sample[1][:0], h=0.1, batch_size=4, seeds=Seeds(0))


def test_batchnorm_is_folded_away_and_the_numbers_are_those_of_the_model(sample: tuple[Tensor, Tensor]) -> None:
    images, labels = sample
    model = smooth_net()
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean = torch.linspace(-1, 1, 6, dtype=torch.float64)
    norm.running_var = torch.linspace(0.5, 2, 6, dtype=torch.float64)
    model.eval()
    found = measure_curvature(model, images, labels, h=0.5, batch_size=6, seeds=Seeds(0))
    loss, rise, length = step_along_gradient(model, images, labels, h=0.5)
    largest = torch.linalg.eigvalsh(hessians(model, images, labels)).abs().amax(dim=1)
    for ours, exact in ((found.loss, loss), (found.rise, rise), (found.gradient_norm, length)):
        torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.eigenvalue, largest, rtol=1e-3, atol=0)


def test_the_copy_without_batchnorm_is_what_runs(
    sample: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = sample
    model, passes = smooth_net().eval(), []
    plain = nn.BatchNorm2d.forward
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda norm, x: passes.append(1) or plain(norm, x))
    measure_curvature(model, images, labels, h=0.5, batch_size=6, seeds=Seeds(0))
    assert not passes
    model(images)
    assert passes
