"""What a step is scored against, how much each column counts, and what logQ expects of it."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.model.sampling import (
    CandidateSet,
    NegativeSampler,
    RandomStreams,
    candidate_sampler,
    same_session,
)
from training.recipe import Recipe

CPU = torch.device("cpu")
POPULARITY = np.array([4, 9, 16, 25, 1, 36])
RECIPE = Recipe(negatives=3, sample_alpha=0.5)
CLICKED, FOLLOWING = torch.tensor([0, 3, 3]), torch.tensor([3, 2, 3])


def chosen(columns: str, sessions: torch.Tensor | None = None, **changed: object) -> CandidateSet:
    recipe = dataclasses.replace(RECIPE, columns=columns, **changed)  # type: ignore[arg-type]
    how = candidate_sampler(recipe, POPULARITY, events=3.0, device=CPU)
    return how.choose(CLICKED, FOLLOWING, sessions, RandomStreams(CPU, 0, 0, 0))


def copies_of(found: CandidateSet) -> list[list[int]]:
    """How often each column counts for each event: (E, C)."""
    assert found.counts is not None
    scores = torch.zeros(len(found.target), len(found.items))
    return found.counts.added_to(scores).exp().round().int().tolist()


@pytest.mark.parametrize("columns", ["distinct", "drawn", "full"])
def test_every_event_finds_its_click_and_its_target(columns: str) -> None:
    found = chosen(columns)

    assert torch.equal(found.items[found.clicked], CLICKED)
    assert torch.equal(found.items[found.target], FOLLOWING)
    assert (found.items.diff() > 0).all()


def test_an_item_that_was_only_clicked_counts_for_nothing() -> None:
    for columns in ("distinct", "drawn"):
        found = chosen(columns, negatives=0)
        assert found.items.tolist() == [0, 2, 3]
        assert [row[0] for row in copies_of(found)] == [0, 0, 0]


def test_drawn_columns_count_every_target_and_every_draw() -> None:
    found = chosen("drawn", negatives=50, mask=False)

    negatives = NegativeSampler(POPULARITY, 0.5, CPU).draw(RandomStreams(CPU, 0, 0, 0).uniform(50))
    counted = torch.bincount(torch.cat([FOLLOWING, negatives]), minlength=6)[found.items].tolist()
    assert copies_of(found) == [counted] * 3
    assert found.counts is not None
    assert found.counts.own.tolist() == [counted[target] for target in found.target.tolist()]


def test_masked_a_target_counts_once_for_its_own_event() -> None:
    found, unmasked = chosen("drawn", negatives=50), chosen("drawn", negatives=50, mask=False)

    for event, (row, other) in enumerate(zip(copies_of(found), copies_of(unmasked), strict=True)):
        other[int(found.target[event])] = 1
        assert row == other
    assert found.counts is not None
    assert found.counts.own.tolist() == [1, 1, 1]


def test_distinct_columns_count_once() -> None:
    found = chosen("distinct", negatives=200)

    assert found.items.tolist() == [0, 1, 2, 3, 4, 5]
    assert copies_of(found) == [[1] * 6] * 3


def test_the_other_targets_of_its_own_session_are_no_negatives_of_an_event() -> None:
    """Events 0 and 1 are one session (targets 3, 2), event 2 another (target 3)."""
    sessions = torch.tensor([0, 0, 1])

    for columns in ("distinct", "drawn"):
        rows = copies_of(chosen(columns, sessions, negatives=0))  # items 0 (clicked), 2, 3
        assert rows[0] == [0, 0, 1], "its target 3 and not its session's 2"
        assert rows[1] == [0, 1, 1], "its target 2, and 3 of the other session"
        assert rows[2] == [0, 1, 1]


def test_what_a_session_holds_is_a_negative_where_it_is_drawn_too() -> None:
    drawn = chosen("drawn", torch.tensor([0, 0, 0]), negatives=50)
    alone = chosen("drawn", None, negatives=50)

    column = drawn.items.tolist().index(2)  # the second event's target
    assert copies_of(drawn)[0][column] == copies_of(alone)[0][column] - 1 > 0


def test_full_columns_are_the_catalogue_without_correction() -> None:
    found = chosen("full")

    assert found.items.tolist() == list(range(6))
    assert found.counts is None
    assert not found.correction.any()


def test_what_is_expected_of_a_drawn_column_is_the_mixture_of_both_ways_to_it() -> None:
    found = chosen("drawn", logq=0.7)

    roots = np.sqrt(POPULARITY)
    mixture = (3 - 1) * POPULARITY / POPULARITY.sum() + 3 * roots / roots.sum()
    expected = 0.7 * np.log(mixture)[found.items.numpy()]
    np.testing.assert_allclose(found.correction.numpy(), expected, rtol=1e-6)


def test_what_is_expected_of_a_distinct_column_is_its_chance_to_be_there() -> None:
    found = chosen("distinct")

    roots = np.sqrt(POPULARITY)
    mixture = (3 - 1) * POPULARITY / POPULARITY.sum() + 3 * roots / roots.sum()
    expected = np.log(1 - np.exp(-mixture))[found.items.numpy()]
    np.testing.assert_allclose(found.correction.numpy(), expected, rtol=1e-6)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_pairs_of_one_session_are_all_and_only_those(sessions: list[int]) -> None:
    first, second = same_session(torch.tensor(sessions))

    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    events = range(len(sessions))
    assert len(pairs) == len(first)
    assert pairs == {
        (a, b) for a in events for b in events if a != b and sessions[a] == sessions[b]
    }


def test_logq_finds_the_shares_that_are_true() -> None:
    """Sampled softmax with its correction has, on average, the gradient of the full softmax.

    One event that sees scores of 0 everywhere: the full softmax gives each of six items 1/6.
    """
    for columns in ("distinct", "drawn"):
        recipe = dataclasses.replace(RECIPE, columns=columns, negatives=2000)
        how = candidate_sampler(recipe, POPULARITY, events=1.0, device=CPU)
        nothing = torch.zeros(0, dtype=torch.int64)
        weight = torch.zeros(6)
        for step in range(50):
            found = how.choose(nothing, nothing, None, RandomStreams(CPU, 0, 0, step))
            assert found.counts is not None
            weight[found.items] += (found.counts.columns - found.correction).exp()
        shares = (weight / weight.sum()).tolist()
        assert shares == pytest.approx([1 / 6] * 6, abs=0.01 if columns == "drawn" else 1e-6)
        assert math.isclose(sum(shares), 1.0, rel_tol=1e-6)
