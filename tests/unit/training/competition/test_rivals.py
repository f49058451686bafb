"""Rivals of the automatic recipe: which recipes take part, and with which settings."""

import pytest

from recsys.errors import BadRecipe
from training.competition.rivals import (
    DEFAULT,
    OTHERS,
    SMALL_LOG,
    Rival,
    incumbent_first,
    rivals_of,
)
from training.recipe import load_recipe, shipped_names


def test_a_named_recipe_has_no_rival() -> None:
    (only,) = rivals_of("accurate", ["hidden=8"])

    assert only.recipe == load_recipe("accurate", ["hidden=8"])


def test_the_default_recipe_comes_first_and_all_are_built_in() -> None:
    rivals = rivals_of("auto")

    assert [rival.name for rival in rivals] == [DEFAULT, *OTHERS]
    assert {rival.name for rival in rivals} <= set(shipped_names("recipe"))
    blended = ["blend=auto"]
    assert all(rival.recipe == load_recipe(rival.name, blended) for rival in rivals)


def test_neighbours_are_blended_in_unless_the_settings_say_otherwise() -> None:
    assert {rival.recipe.blend for rival in rivals_of("auto")} == {"auto"}
    assert {rival.recipe.blend for rival in rivals_of("auto", [" blend = none"])} == {"none"}
    assert {rival.recipe.blend for rival in rivals_of("auto", ["blend=v-sknn"])} == {"v-sknn"}
    assert {rival.recipe.blend for rival in rivals_of("auto", ["validation=0.0"])} == {"none"}
    weighed = ["validation=0.0", "blend_weight=0.3"]  # no session is needed to choose the weight
    assert {rival.recipe.blend for rival in rivals_of("auto", weighed)} == {"auto"}


@pytest.mark.parametrize(
    "setting", ["validation", "window", "seed", "select_by", "refit", "blend", "retrieval"]
)
def test_rivals_differ_in_no_setting_that_their_comparison_needs(setting: str) -> None:
    assert len({getattr(rival.recipe, setting) for rival in rivals_of("auto")}) == 1


@pytest.mark.parametrize(("clicks", "first"), [(SMALL_LOG - 1, "bpr-max"), (SMALL_LOG, DEFAULT)])
def test_the_incumbent_depends_on_the_size_of_the_log(clicks: int, first: str) -> None:
    rivals = rivals_of("auto")

    ordered = incumbent_first(rivals, clicks)

    assert ordered[0].name == first
    assert sorted(ordered, key=rivals.index) == list(rivals)


def test_without_the_recipe_of_small_logs_the_default_is_the_incumbent() -> None:
    rivals = (Rival("default", load_recipe("default")), Rival("other", load_recipe("shop")))

    assert incumbent_first(rivals, 100) == rivals


def test_settings_are_those_of_every_rival() -> None:
    assert {rival.recipe.hidden for rival in rivals_of("auto", ["hidden=8"])} == {8}


def test_a_challenger_that_the_settings_make_equal_to_another_does_not_take_part() -> None:
    different = set()
    for rival in rivals_of("auto", ["blend=none"]):
        default = load_recipe("default")
        names = default.__slots__
        different |= {n for n in names if getattr(rival.recipe, n) != getattr(default, n)}
    same = [f"{name}={getattr(load_recipe('default'), name)!r}" for name in sorted(different)]

    assert [rival.name for rival in rivals_of("auto", same)] == [DEFAULT]


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(BadRecipe, match="epoch is not a setting"):
        rivals_of("auto", ["epoch=8"])


def test_an_unknown_recipe_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(BadRecipe, match=r"there is no recipe 'best'.* Built in: auto, accurate"):
        rivals_of("best")
