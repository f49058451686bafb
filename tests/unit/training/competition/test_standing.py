"""Standing of a rival: the gain and its standard error, paired over sessions."""

import numpy as np
import pytest

from tests.support.training.builders import words
from training.checkpoint import EpochResult
from training.competition.standing import (
    Standing,
    paired_gain,
    score_of_cases,
    standing,
    standings_table,
    with_outcomes,
)
from training.trainer import SearchProgress

RANKS = np.array([1, 2, 21, 4], dtype=np.int32)


def search(ranks: np.ndarray) -> SearchProgress:
    return SearchProgress([EpochResult("search", 1, 1.0, 1.0, 4)], 1, ranks.astype(np.int32))


def test_the_score_is_recall_plus_twice_the_reciprocal_rank() -> None:
    assert score_of_cases(RANKS).tolist() == [1 + 2 / 1, 1 + 2 / 2, 0, 1 + 2 / 4]


def test_a_rival_with_the_same_ranks_has_no_gain_and_no_error() -> None:
    row = standing("same", search(RANKS), search(RANKS), words("abc", "abc"))

    assert (row.gain, row.error) == (0.0, 0.0)
    assert not row.is_better
    assert row.recall == 3 / 4
    assert row.mrr == (1 + 1 / 2 + 1 / 4) / 4


def test_the_gain_is_the_mean_difference_of_the_cases() -> None:
    worse = np.array([2, 2, 21, 4], dtype=np.int32)
    row = standing("better", search(RANKS), search(worse), words("abc", "abc"))

    assert row.gain == pytest.approx((2 / 1 - 2 / 2) / 4)


def test_the_error_is_that_of_the_mean_of_sessions() -> None:
    """For one case in each session, it is the standard deviation over √sessions."""
    random = np.random.default_rng(1)
    values = random.normal(size=400)
    gain, error = paired_gain(values, np.zeros(400), np.arange(400))

    assert gain == pytest.approx(values.mean())
    assert error == pytest.approx(values.std() / np.sqrt(400), rel=0.1)


def test_cases_of_one_session_are_no_more_evidence_than_one() -> None:
    values = np.random.default_rng(1).normal(size=400)
    copied, sessions = np.repeat(values, 3), np.repeat(np.arange(400), 3)

    assert paired_gain(copied, np.zeros(1200), sessions)[1] == pytest.approx(
        paired_gain(values, np.zeros(400), np.arange(400))[1], rel=1e-5
    )


@pytest.mark.parametrize(
    ("gain", "better"), [(0.02, True), (0.01, False), (0.0, False), (-0.02, False)]
)
def test_a_rival_within_its_standard_error_does_not_win(gain: float, better: bool) -> None:
    assert Standing("rival", 3, 3, gain=gain, error=0.01).is_better is better


def test_a_noisy_challenger_does_not_hide_one_that_is_clearly_better() -> None:
    own = Standing("own", 5, 5)
    noisy = Standing("noisy", 5, 5, gain=0.020, error=0.025)
    clear = Standing("clear", 5, 5, gain=0.015, error=0.004)
    smaller = Standing("smaller", 5, 5, gain=0.010, error=0.004)
    cut = Standing("cut", 5, 5, gain=0.030, error=0.040, outcome="not clearly better yet")

    rows = with_outcomes(own, [noisy, clear, smaller, cut])

    assert {row.recipe: row.outcome for row in rows} == {
        "own": "beaten",
        "noisy": "not clearly better",
        "clear": "chosen",
        "smaller": "another was better",
        "cut": "not clearly better yet",
    }


def test_the_incumbent_remains_where_no_challenger_is_clearly_better() -> None:
    noisy = Standing("noisy", 5, 5, gain=0.020, error=0.025)

    own, other = with_outcomes(Standing("own", 5, 5), [noisy])

    assert (own.outcome, other.outcome) == ("chosen", "not clearly better")


def test_the_table_shows_no_figures_of_a_recipe_without_a_best_epoch() -> None:
    rows = [Standing("own", 5, 4, 0.5, 0.25), Standing("wild", 2, outcome="diverged")]
    table = standings_table(rows, "2x")

    cells = [
        tuple(str(cell) for cell in row)
        for row in zip(*(column.cells for column in table.columns), strict=True)
    ]
    assert cells[0] == ("own", "5", "0.5000", "0.2500", "+0.0000", "0.0000", "")
    assert cells[1] == ("wild", "2", "–", "–", "–", "–", "diverged")
