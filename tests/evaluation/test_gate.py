"""Masked models are caught by the item meant for them; an honest robust model passes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from guard_plugins import evaluate
from guard_plugins.artifacts.report import GateItem
from guard_plugins.attacks.ascent import few_sizes
from guard_plugins.attacks.pgd import PGD
from guard_plugins.evaluation.gate import eligibility, probes
from guard_plugins.evaluation.gate.bound import loss_rise_within_bound
from guard_plugins.evaluation.gate.examine import Subject, examine, probe
from guard_plugins.evaluation.gate.subject import clearly_more
from guard_plugins.runtime.seeds import Seeds
from tests.attacks.oracle import train_digits
from tests.evaluation.masked import Confident, Constant, Noisy, Probabilities, Purifying, Quantised, Reversed, Severed


@pytest.fixture(scope="module")
def source(digits: tuple[Tensor, Tensor]) -> nn.Module:
    return train_digits(*digits, seed=1)


def subject(
    model: nn.Module, digits: tuple[Tensor, Tensor], source: nn.Module | None = None, teacher: nn.Module | None = None
) -> Subject:
    images, labels = digits[0][1300:1500], digits[1][1300:1500]
    return Subject(
        model=model, images=images, labels=labels, eps=32 / 255, seeds=Seeds(0), source=source, teacher=teacher
    )


def names(items: list[GateItem]) -> set[str]:
    return {item.name for item in items if item.verdict == "failed"}


def test_an_honest_robust_model_passes(robust_net: nn.Module, digits: tuple[Tensor, Tensor], source: nn.Module) -> None:
    steps: list[tuple[int, int]] = []
    gated = subject(robust_net, digits, source, teacher=source)
    items = probe(gated, h=0.5, progress=lambda _, *at: steps.append(at))
    assert names(items) == set(), [item for item in items if item.verdict == "failed"]
    assert [item.verdict for item in items].count("passed") >= 10
    assert all(item.figure for item in items)
    assert steps == [(i, len(items)) for i in range(1, len(items) + 1)]


def test_an_honest_fragile_model_passes(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    assert names(probe(subject(digits_net, digits), h=0.5)) == set()


def test_logits_times_100_are_caught_by_rescaling(
    digits_net: nn.Module, digits: tuple[Tensor, Tensor], source: nn.Module
) -> None:
    found = names(probe(subject(Confident(digits_net), digits, source), h=0.5))
    assert "logit scale makes no difference" in found
    assert {"margin losses agree", "input gradients are not zero", "ε curve falls to zero"} <= found


def test_a_quantised_input_layer_is_caught_by_its_zero_gradients(
    digits_net: nn.Module, digits: tuple[Tensor, Tensor], source: nn.Module
) -> None:
    found = names(probe(subject(Quantised(digits_net), digits, source), h=0.5))
    assert "input gradients are not zero" in found
    assert {"random noise weaker than white-box", "transfer weaker than white-box"} <= found


def test_gradients_that_point_the_other_way_are_caught(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    item = eligibility.gradients_are_not_zero(subject(Reversed(digits_net), digits))
    assert item.verdict == "failed"
    assert item.finding.startswith("the input gradient points downhill on ")
    assert "own gradient" in item.suggests
    assert eligibility.gradients_are_not_zero(subject(digits_net, digits)).verdict == "passed"


@pytest.mark.parametrize("scale", [1e-4, 1.0, 30.0])
def test_rounding_does_not_turn_an_honest_gradient(
    scale: float, digits_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    item = eligibility.gradients_are_not_zero(subject(probes.Rescaled(digits_net, scale), digits))
    assert "downhill" not in item.finding


def test_a_forward_pass_that_autograd_does_not_see_is_a_finding_and_no_traceback(digits_net: nn.Module) -> None:
    for network in (Severed(digits_net), Constant(digits_net)):
        found = evaluate(network, "digits", protocol="fgsm", images=20)
        failed = [item for item in found.gate if item.name == "input gradients are not zero"]
        assert [item.finding for item in failed] == ["no gradient reaches the pixels of 20 of 20 images"]


def test_noise_in_the_forward_pass_is_caught_by_repeating_it(
    digits_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    item = eligibility.logits_are_deterministic(subject(Noisy(digits_net), digits))
    assert item.verdict == "failed"
    assert "EOT" in item.suggests
    assert eligibility.logits_are_deterministic(subject(digits_net, digits)).value == 0.0


def test_probabilities_are_caught(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    item = eligibility.outputs_are_logits(subject(Probabilities(digits_net), digits))
    assert item.verdict == "failed"
    assert "remove the softmax" in item.suggests


def test_optimisation_inside_the_forward_pass_is_caught(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    item = eligibility.forward_does_not_optimise(subject(Purifying(digits_net), digits))
    assert (item.verdict, item.value) == ("failed", 1.0)
    assert eligibility.forward_does_not_optimise(subject(digits_net, digits)).verdict == "passed"


def test_a_loss_that_has_not_converged_is_caught(robust_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    images, labels = digits[0][1300:1500], digits[1][1300:1500]
    few = Subject(model=robust_net, images=images, labels=labels, eps=48 / 255, seeds=Seeds(0), attack=PGD(steps=2))
    item = probes.converged(few)
    assert item.verdict == "failed"
    assert item.value is not None
    assert item.value > 0.05  # 2.5 points would be enough
    assert item.finding == f"PGD-2 is too weak at 48/255: {100 * item.value:.1f}".removesuffix(".0") + (
        " points too high on 200 images"
    )


def test_without_a_source_transfer_is_not_run(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    item = probes.transfer_is_weaker(subject(digits_net, digits))
    assert (item.verdict, item.suggests) == ("not run", "")
    assert "no undefended network" in item.figure


def test_a_masked_model_falls_to_an_attacker_who_knows_its_teacher(
    digits_net: nn.Module, digits: tuple[Tensor, Tensor], source: nn.Module
) -> None:
    item = probes.teacher_is_of_little_help(subject(Quantised(digits_net), digits, teacher=source))
    assert item.verdict == "failed"
    assert "adaptive-20+teacher breaks" in item.figure
    assert "report the adaptive attack" in item.suggests


def test_an_attack_breaks_clearly_more_only_if_chance_does_not_explain_it() -> None:
    def clearly(broken: int, images: int, *, limit: float = 0.05, rescued: int = 0) -> bool:
        before, after = (torch.ones(images, dtype=torch.bool) for _ in range(2))
        after[:broken] = False
        before[images - rescued :] = False
        return clearly_more(before, after, limit)

    assert (clearly(0, 48), clearly(3, 48), clearly(6, 48), clearly(7, 48)) == (False, False, False, True)
    assert (clearly(10, 200), clearly(16, 200), clearly(17, 200), clearly(200, 200)) == (False, False, True, True)
    # Five of 200 images more are clearly more than half a point; not if the other attack breaks three others.
    assert [clearly(broken, 200, limit=0.005) for broken in (2, 4, 5, 12)] == [False, False, True, True]
    assert not clearly(8, 200, limit=0.005, rescued=3)
    assert not clearly(0, 200, limit=0.005, rescued=200)


@pytest.mark.parametrize("seed", range(3))
def test_rounding_does_not_decide_whether_an_honest_attack_has_converged(
    seed: int, digits_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    """Weights that differ by rounding, as with another number of threads, move a few images either way."""
    model, generator = copy.deepcopy(digits_net), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1 + 1e-4 * torch.randn(weight.shape, generator=generator))
    item = probes.converged(subject(model, digits))
    assert item.verdict == "passed", item.figure


def test_without_a_teacher_the_adaptive_attack_is_not_run(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    item = probes.teacher_is_of_little_help(subject(digits_net, digits))
    assert (item.verdict, item.suggests) == ("not run", "")
    assert "no teacher was given" in item.figure


def test_the_bound_holds_where_the_loss_is_quadratic() -> None:
    class Gentle(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            x = images.flatten(1)
            return torch.stack([x.mean(1), 1 - x.mean(1)], dim=1)

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(32, 1, 4, 4, generator=generator)
    labels = Gentle()(images).argmax(1)
    item = loss_rise_within_bound(
        Subject(model=Gentle(), images=images, labels=labels, eps=8 / 255, seeds=Seeds(0)), h=0.1
    )
    assert (item.verdict, item.value) == ("passed", 0.0)


def test_the_bound_only_warns_where_it_breaks(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    item = loss_rise_within_bound(subject(digits_net, digits), h=0.5)
    assert item.verdict == "warning"
    assert "kinks" in item.suggests


def test_probing_leaves_a_model_in_training_mode_as_it_was(digits: tuple[Tensor, Tensor]) -> None:
    model = train_digits(*digits, epochs=1).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    probe(subject(model, digits), h=0.5)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_whole_gate_lists_every_item_once(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    items = examine(subject(digits_net, digits), clean=0.99, results=[], h=0.5)
    assert len({item.name for item in items}) == len(items) == 20
    unseen = {item.name for item in items if item.verdict == "not run"}
    assert "Square not below white-box" in unseen
    assert "clean accuracy kept" in unseen


def test_a_failure_counts_only_if_more_images_confirm_it(digits: tuple[Tensor, Tensor]) -> None:
    class Blocked(nn.Module):
        """No gradient reaches the first images, which a dark corner marks."""

        def forward(self, images: Tensor) -> Tensor:
            x = images.flatten(1)
            passed = torch.where(x[:, :1] > 0.5, x, x.detach())
            return torch.stack([passed.mean(1), 1 - passed.mean(1)], dim=1)

    images, labels = torch.rand(400, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(400).long()
    images[:, 0, 0, 0] = 1.0
    images[:3, 0, 0, 0] = 0.0

    def zero_gradients(blocked_of_many: int, *, confirm: bool) -> GateItem:
        many = images.clone()
        many[:blocked_of_many, 0, 0, 0] = 0.0
        larger = Subject(model=Blocked(), images=many, labels=labels, eps=0.1, seeds=Seeds(0), spare=2)
        few = Subject(
            model=Blocked(), images=images[:48], labels=labels[:48], eps=0.1, seeds=Seeds(0),
            confirm=(lambda: larger) if confirm else None,
        )  # fmt: skip
        (item,) = [item for item in probe(few, h=0.1) if item.name == "input gradients are not zero"]
        return item

    assert zero_gradients(3, confirm=False).finding == "no gradient reaches the pixels of 3 of 48 images"
    passed, failed = zero_gradients(3, confirm=True), zero_gradients(5, confirm=True)
    assert (passed.verdict, failed.verdict) == ("passed", "failed")
    assert passed.figure.endswith("(400 images, after a failure on 48)")
    assert failed.finding == "no gradient reaches the pixels of 5 of 400 images"


def test_two_images_never_decide_on_the_last_look(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    few = Subject(model=digits_net, images=digits[0][:48], labels=digits[1][:48], eps=0.1, seeds=Seeds(0), spare=2)
    assert 2 / 48 < few.slack(0.01) < 3 / 48
    assert few.slack(0.2) == 0.2


def test_only_the_images_among_those_asked_are_attacked(digits_net: nn.Module, digits: tuple[Tensor, Tensor]) -> None:
    gated, among = subject(digits_net, digits), torch.arange(200) % 4 == 0
    sizes: list[int] = []
    handle = digits_net.register_forward_hook(lambda module, args, out: sizes.append(len(args[0])))
    left = gated.left_by(PGD(steps=3), among)
    handle.remove()
    assert max(sizes) == few_sizes(50) == 52
    assert not left[~among].any()
    assert 0 < int(left.sum()) < 50
