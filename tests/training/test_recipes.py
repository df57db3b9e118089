"""The students' recipes: what each sets, and that options of the user's go over it."""

from __future__ import annotations

import pytest

from guard_plugins.config.student import StudentConfig
from guard_plugins.training.recipes import DC, MODERN, RECIPES, SRE2L, recipe_of
from guard_plugins.training.schedules import half_cosine, step_down, warm_up_cosine


def test_the_help_names_exactly_the_recipes() -> None:
    text = StudentConfig.model_fields["protocol"].description or ""
    assert text.split(": ")[1].split(", or one")[0].split(", ") == list(RECIPES)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_protocol_alone_is_its_recipe(name: str) -> None:
    assert recipe_of(StudentConfig.model_validate({"protocol": name})) == RECIPES[name]


def test_options_go_over_the_recipe_zero_included() -> None:
    recipe = recipe_of(StudentConfig(protocol="sre2l", epochs=7, cutmix=0.0, temperature=4.0))
    assert (recipe.epochs, recipe.cutmix, recipe.temperature) == (7, 0.0, 4.0)
    assert (recipe.lr, recipe.batch_size) == (SRE2L.lr, SRE2L.batch_size)


def test_published_constants() -> None:
    assert (DC.optimizer, DC.lr, DC.weight_decay, DC.epochs, DC.batch_size, DC.schedule) == (
        "sgd", 0.01, 5e-4, 300, 256, "step",
    )  # fmt: skip
    assert (SRE2L.optimizer, SRE2L.lr, SRE2L.epochs, SRE2L.batch_size, SRE2L.temperature, SRE2L.cutmix) == (
        "adamw", 1e-3, 300, 1024, 20.0, 1.0,
    )  # fmt: skip
    assert (MODERN.epochs, MODERN.batch_size, MODERN.lr, MODERN.schedule) == (400, 50, 1e-3, "half-cosine")


@pytest.mark.parametrize(("step", "factor"), [(0, 1.0), (50, 1.0), (51, 0.1), (99, 0.1)])
def test_the_step_falls_to_a_tenth_after_half_way(step: int, factor: float) -> None:
    assert step_down(step, 100) == factor


def test_half_of_a_cosine_ends_at_a_half() -> None:
    assert (half_cosine(0, 100), half_cosine(100, 100)) == (1.0, pytest.approx(0.5))


def test_the_warm_up_rises_to_one_and_the_cosine_ends_at_zero() -> None:
    values = [warm_up_cosine(step, 100) for step in range(101)]
    assert values[0] == pytest.approx(0.01)
    assert values[5] == 1.0
    assert values[:6] == sorted(values[:6])
    assert values[100] == pytest.approx(0.0, abs=1e-12)
