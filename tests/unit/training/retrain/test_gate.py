"""The gate passes what is not worse by more than the margin, and says how sure it is."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.model.ranking import UNRANKED
from training.evaluation.evaluate import RankedCases
from training.retrain.gate import Z_POWER, Z_TAIL, judge

MARGIN = 0.01
RANKS = st.lists(st.sampled_from([1, 20, 21, UNRANKED]), min_size=40, max_size=40)


def ranked(*ranks: int, session_length: int = 1) -> RankedCases:
    """Return cases with these ranks, so many in a session."""
    session = np.arange(len(ranks), dtype=np.int32) // session_length
    ones = np.ones(len(ranks), dtype=np.int32)
    return RankedCases(session, ones, ones, np.array(ranks, dtype=np.int32))


def test_equal_models_pass_with_a_margin_and_not_without_one() -> None:
    same = ranked(1, 5, 30, UNRANKED)

    verdict = judge(same, same, MARGIN)

    assert verdict.passes
    assert (verdict.recall.difference, verdict.recall.low, verdict.recall.high) == (0, 0, 0)
    assert verdict.disagreement == 0
    assert not judge(same, same, margin=0.0).passes


def test_the_difference_is_relative_and_of_both_metrics() -> None:
    candidate, current = ranked(1, 21, 1, 21), ranked(1, 2, 1, 2)

    verdict = judge(candidate, current, MARGIN)

    assert (verdict.recall.candidate, verdict.recall.current) == (2 / 4, 4 / 4)
    assert verdict.recall.difference == 1 / 2 - 1
    assert math.isclose(verdict.mrr.difference, (2 / 4) / (3 / 4) - 1)
    assert (verdict.cases, verdict.sessions, verdict.disagreement) == (4, 4, 2 / 4)
    assert not verdict.passes


def test_whole_sessions_are_drawn_so_alike_sessions_leave_no_doubt() -> None:
    candidate = ranked(*[1, 21] * 10, session_length=2)
    current = ranked(*[1, 1] * 10, session_length=2)

    recall = judge(candidate, current, MARGIN).recall

    assert (recall.low, recall.difference, recall.high) == (-1 / 2, -1 / 2, -1 / 2)


def test_an_item_that_the_current_model_does_not_know_is_its_miss() -> None:
    verdict = judge(ranked(1, 1, 1), ranked(UNRANKED, UNRANKED, UNRANKED), MARGIN)

    assert verdict.passes
    assert verdict.recall.difference == math.inf


def test_two_models_that_find_nothing_are_equal() -> None:
    nothing = ranked(UNRANKED, 21, 30)

    assert judge(nothing, nothing, MARGIN).recall.difference == 0


@settings(max_examples=20)
@given(RANKS, RANKS)
def test_without_a_margin_at_most_one_of_two_models_is_better(
    one: list[int], other: list[int]
) -> None:
    first, second = ranked(*one), ranked(*other)

    assert not (judge(first, second, 0.0).passes and judge(second, first, 0.0).passes)


def test_the_cases_needed_grow_with_the_square_of_the_error() -> None:
    candidate, current = ranked(*[1, 21, 1, 1] * 25), ranked(*[21, 1, 1, 1] * 25)

    verdict = judge(candidate, current, MARGIN)

    error = (verdict.recall.high - verdict.recall.low) / (2 * Z_TAIL)
    assert verdict.cases_needed == math.ceil(100 * ((Z_TAIL + Z_POWER) * error / MARGIN) ** 2)
