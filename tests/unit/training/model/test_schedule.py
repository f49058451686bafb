import pytest

from training.model.optim import learning_rate_at
from training.recipe import Recipe


def rates(**settings: object) -> list[float]:
    recipe = Recipe(**{"learning_rate": 0.8, "warmup": 0.0, **settings})  # type: ignore[arg-type]
    return [learning_rate_at(recipe, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]


def test_constant_is_the_default_after_a_short_warm_up() -> None:
    assert rates() == [0.8] * 5
    assert rates(warmup=Recipe().warmup) == [0.0, *[0.8] * 4]


def test_linear_goes_to_zero() -> None:
    assert rates(schedule="linear") == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])


def test_cosine_is_half_way_in_the_middle_and_flat_at_both_ends() -> None:
    values = rates(schedule="cosine")

    assert values[2] == pytest.approx(0.4)
    assert values[0] - values[1] == pytest.approx(values[3] - values[4])
    assert values[0] - values[1] < values[1] - values[2]


def test_a_warm_up_rises_from_zero_and_the_schedule_fills_the_rest() -> None:
    assert rates(schedule="linear", warmup=0.5) == pytest.approx([0.0, 0.4, 0.8, 0.4, 0.0])
