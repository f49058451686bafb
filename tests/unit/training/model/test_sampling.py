"""Random streams, negative sampling, candidates of a step, and their logQ correction."""

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
    pairs_in_rows,
)
from training.recipe import Recipe

CPU = torch.device("cpu")
POPULARITY = np.array([4, 9, 16, 25, 1, 36])
RECIPE = Recipe(negatives=3, sample_alpha=0.5)
INPUTS, TARGETS = torch.tensor([0, 3, 3]), torch.tensor([3, 2, 3])


def sampled(scored_items: str, rows: torch.Tensor | None = None, **changed: object) -> CandidateSet:
    recipe = dataclasses.replace(RECIPE, scored_items=scored_items, **changed)  # type: ignore[arg-type]
    sampler = candidate_sampler(recipe, POPULARITY, clicks_per_step=3.0, device=CPU)
    return sampler.sample(INPUTS, TARGETS, rows, RandomStreams(CPU, 0, 0, 0))


def counts_of(candidates: CandidateSet) -> list[list[int]]:
    """Return how often each candidate counts for each click: (clicks, C)."""
    assert candidates.counts is not None
    scores = torch.zeros(len(candidates.target_indices), len(candidates.items))
    return candidates.counts.added_to(scores).exp().round().int().tolist()


@pytest.mark.parametrize("scored_items", ["unique", "with-duplicates", "all"])
def test_every_input_and_every_target_is_a_candidate(scored_items: str) -> None:
    candidates = sampled(scored_items)

    assert torch.equal(candidates.items[candidates.input_indices], INPUTS)
    assert torch.equal(candidates.items[candidates.target_indices], TARGETS)
    assert (candidates.items.diff() > 0).all()


def test_an_item_that_is_an_input_only_counts_zero_times() -> None:
    for scored_items in ("unique", "with-duplicates"):
        candidates = sampled(scored_items, negatives=0)
        assert candidates.items.tolist() == [0, 2, 3]
        assert [row[0] for row in counts_of(candidates)] == [0, 0, 0]


def test_with_duplicates_every_target_and_every_negative_counts() -> None:
    candidates = sampled("with-duplicates", negatives=50, mask=False)

    negatives = NegativeSampler(POPULARITY, 0.5, CPU).draw(RandomStreams(CPU, 0, 0, 0).uniform(50))
    counted = torch.bincount(torch.cat([TARGETS, negatives]), minlength=6)[
        candidates.items
    ].tolist()
    assert counts_of(candidates) == [counted] * 3
    assert candidates.counts is not None
    assert candidates.counts.of_targets.tolist() == [
        counted[target] for target in candidates.target_indices.tolist()
    ]


def test_with_a_mask_a_target_counts_once_for_its_own_click() -> None:
    candidates, unmasked = (
        sampled("with-duplicates", negatives=50),
        sampled("with-duplicates", negatives=50, mask=False),
    )

    for click, (row, other) in enumerate(
        zip(counts_of(candidates), counts_of(unmasked), strict=True)
    ):
        other[int(candidates.target_indices[click])] = 1
        assert row == other
    assert candidates.counts is not None
    assert candidates.counts.of_targets.tolist() == [1, 1, 1]


def test_unique_candidates_count_once() -> None:
    candidates = sampled("unique", negatives=200)

    assert candidates.items.tolist() == [0, 1, 2, 3, 4, 5]
    assert counts_of(candidates) == [[1] * 6] * 3


def test_the_other_targets_of_its_own_session_are_no_negatives_of_a_click() -> None:
    """Clicks 0 and 1 are one session (targets 3, 2), click 2 is another (target 3)."""
    sessions = torch.tensor([0, 0, 1])

    for scored_items in ("unique", "with-duplicates"):
        rows = counts_of(sampled(scored_items, sessions, negatives=0))  # items 0 (clicked), 2, 3
        assert rows[0] == [0, 0, 1], "its target 3 and not its session's 2"
        assert rows[1] == [0, 1, 1], "its target 2, and 3 of the other session"
        assert rows[2] == [0, 1, 1]


def test_a_target_of_the_same_session_is_a_negative_where_it_is_sampled_too() -> None:
    together = sampled("with-duplicates", torch.tensor([0, 0, 0]), negatives=50)
    alone = sampled("with-duplicates", None, negatives=50)

    column = together.items.tolist().index(2)  # the second click's target
    assert counts_of(together)[0][column] == counts_of(alone)[0][column] - 1 > 0


def test_the_full_softmax_has_all_items_and_no_correction() -> None:
    candidates = sampled("all")

    assert candidates.items.tolist() == list(range(6))
    assert candidates.counts is None
    assert not candidates.logq_correction.any()


def test_logq_with_duplicates_is_the_expected_number_of_targets_and_negatives() -> None:
    candidates = sampled("with-duplicates", logq=0.7)

    roots = np.sqrt(POPULARITY)
    mixture = (3 - 1) * POPULARITY / POPULARITY.sum() + 3 * roots / roots.sum()
    expected = 0.7 * np.log(mixture)[candidates.items.numpy()]
    np.testing.assert_allclose(candidates.logq_correction.numpy(), expected, rtol=1e-6)


def test_logq_of_unique_candidates_is_the_probability_to_be_a_candidate() -> None:
    candidates = sampled("unique")

    roots = np.sqrt(POPULARITY)
    mixture = (3 - 1) * POPULARITY / POPULARITY.sum() + 3 * roots / roots.sum()
    expected = np.log(1 - np.exp(-mixture))[candidates.items.numpy()]
    np.testing.assert_allclose(candidates.logq_correction.numpy(), expected, rtol=1e-6)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_pairs_in_rows_are_all_pairs_of_one_row_and_no_others(sessions: list[int]) -> None:
    first, second = pairs_in_rows(torch.tensor(sessions))

    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    clicks = range(len(sessions))
    assert len(pairs) == len(first)
    assert pairs == {
        (a, b) for a in clicks for b in clicks if a != b and sessions[a] == sessions[b]
    }


def test_logq_corrects_the_sampled_softmax_to_the_full_one() -> None:
    """Sampled softmax with its correction has, on average, the gradient of the full softmax.

    All scores are 0: the full softmax gives each of the six items 1/6.
    """
    for scored_items in ("unique", "with-duplicates"):
        recipe = dataclasses.replace(RECIPE, scored_items=scored_items, negatives=2000)
        sampler = candidate_sampler(recipe, POPULARITY, clicks_per_step=1.0, device=CPU)
        nothing = torch.zeros(0, dtype=torch.int64)
        weight = torch.zeros(6)
        for step in range(50):
            candidates = sampler.sample(nothing, nothing, None, RandomStreams(CPU, 0, 0, step))
            assert candidates.counts is not None
            weight[candidates.items] += (
                candidates.counts.log_counts - candidates.logq_correction
            ).exp()
        shares = (weight / weight.sum()).tolist()
        assert shares == pytest.approx(
            [1 / 6] * 6, abs=0.01 if scored_items == "with-duplicates" else 1e-6
        )
        assert math.isclose(sum(shares), 1.0, rel_tol=1e-6)


COUNTS = np.array([1, 4, 16, 79])


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_items_are_sampled_by_popularity_to_the_power_of_alpha(alpha: float) -> None:
    sampler = NegativeSampler(COUNTS, alpha, CPU)

    sampled = torch.bincount(
        sampler.draw(RandomStreams(CPU, 0, 0, 0).uniform(200_000)), minlength=4
    )

    expected = COUNTS**alpha / (COUNTS**alpha).sum()
    np.testing.assert_allclose(sampled.numpy() / 200_000, expected, atol=0.005)


def test_the_ends_of_the_unit_interval_map_to_the_first_and_the_last_item() -> None:
    sampler = NegativeSampler(COUNTS, 0.5, CPU)
    ends = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64)

    assert sampler.draw(ends).tolist() == [0, 3]


def test_the_expected_frequency_adds_clicks_and_samples() -> None:
    expected = NegativeSampler(COUNTS, 0.5, CPU).expected(clicks=10, samples=100)

    roots = np.sqrt(COUNTS)
    mixture = 10 * COUNTS / COUNTS.sum() + 100 * roots / roots.sum()
    np.testing.assert_allclose(expected.numpy(), mixture, rtol=1e-12)


def test_the_dropped_share_is_the_rate_and_the_mean_stays_one() -> None:
    mask = RandomStreams(CPU, 1, 2, 3).dropout_mask(torch.Size((400, 1000)), 0.3)

    assert (mask == 0).float().mean().item() == pytest.approx(0.3, abs=0.003)
    assert mask.max().item() == pytest.approx(1 / 0.7, rel=1e-4)
    assert mask.mean().item() == pytest.approx(1.0, abs=0.01)


def test_numbers_are_uniform_below_one() -> None:
    numbers = RandomStreams(CPU, 1, 2, 3).uniform(100_000)

    assert numbers.dtype == torch.float64
    assert 0 <= numbers.min() < numbers.max() < 1
    assert numbers.mean().item() == pytest.approx(0.5, abs=0.01)


def test_a_repeated_step_has_equal_random_numbers_and_another_step_has_others() -> None:
    def both(*step: int) -> torch.Tensor:
        random = RandomStreams(CPU, *step)
        return torch.cat(
            [random.uniform(5), random.dropout_mask(torch.Size((3, 7)), 0.5).flatten()]
        )

    assert torch.equal(both(1, 2, 3), both(1, 2, 3))
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(both(1, 2, 3), both(*other))


@pytest.mark.parametrize("numbers", [1, 3, 4, 5])
def test_a_mask_has_any_number_of_elements(numbers: int) -> None:
    assert (
        RandomStreams(CPU, 0, 0, 0).dropout_mask(torch.Size((numbers,)), 0.0).tolist()
        == [1.0] * numbers
    )
