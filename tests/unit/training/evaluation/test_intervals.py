"""Intervals by resampling whole sessions, against distributions that are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluation.intervals import estimate, ratio, resampled_sums, session_sums


def sums_of(values: list[float], session: list[int]) -> NDArray[np.float32]:
    """Return (sessions, 2): the sum of each session's cases, and their number."""
    inside, sessions = np.array(session, dtype=np.int32), max(session) + 1
    parts = [session_sums(np.array(v), inside, sessions) for v in (values, [1.0] * len(values))]
    return np.stack(parts, axis=1)


def means_of(per_session: NDArray[np.float32], seed: int = 0) -> NDArray[np.float64]:
    sums = resampled_sums(per_session, seed=seed)
    return ratio(sums[:, 0], sums[:, 1])


def test_the_sum_of_a_session_is_the_sum_of_its_cases() -> None:
    found = sums_of([1.0, 0.5, 0.25], [0, 0, 1])

    assert found.tolist() == [[1.5, 2.0], [0.25, 1.0]]


def test_equal_sessions_give_an_interval_without_width() -> None:
    means = means_of(sums_of([1.0, 0.0] * 30, [n // 2 for n in range(60)]))

    found = estimate(0.5, means)
    assert (found.low, found.high) == (0.5, 0.5)


def test_two_sessions_give_the_distribution_of_two_coins() -> None:
    """One hit in a session of one case, none in the other: 0, 1/2 and 1 by 1 : 2 : 1."""
    means = means_of(sums_of([1.0, 0.0], [0, 1]))

    shares = [float((means == value).mean()) for value in (0.0, 0.5, 1.0)]
    assert sum(shares) == 1
    # four standard errors of a share over 1,000 draws: 4 * sqrt(0.25 / 1000)
    assert shares == pytest.approx([1 / 4, 1 / 2, 1 / 4], abs=0.063)
    found = estimate(0.5, means)
    assert (found.low, found.high) == (0.0, 1.0)


def test_a_long_session_weighs_as_many_cases_as_it_has() -> None:
    """3 hits in one session, 1 miss in the other: the mean is 0, 3/4 or 1, never 1/2."""
    means = means_of(sums_of([1.0, 1.0, 1.0, 0.0], [0, 0, 0, 1]))

    assert set(means.tolist()) == {0.0, 3 / 4, 1.0}


def test_one_seed_gives_one_interval_and_another_seed_another() -> None:
    sums = sums_of([float(n % 3 == 0) for n in range(90)], [n // 2 for n in range(90)])

    assert np.array_equal(means_of(sums, seed=1), means_of(sums, seed=1))
    assert not np.array_equal(means_of(sums, seed=1), means_of(sums, seed=2))


def test_resampling_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = sums_of([float(n % 3 == 0) for n in range(90)], [n // 2 for n in range(90)])
    whole = resampled_sums(sums)

    monkeypatch.setattr("training.evaluation.intervals.WEIGHTS_AT_ONCE", 45 * 7)

    assert np.array_equal(whole, resampled_sums(sums))


def test_the_interval_is_as_wide_as_the_standard_error_implies() -> None:
    """400 sessions of one case, half of them hits: standard error sqrt(0.25 / 400) = 0.025."""
    means = means_of(sums_of([float(n % 2) for n in range(400)], list(range(400))))

    assert means.std() == pytest.approx(0.025, rel=0.1)
    found = estimate(0.5, means)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.025, rel=0.1)


def test_the_difference_of_correlated_figures_has_a_narrow_interval() -> None:
    """Model and baseline miss the same hard sessions; the model is right in one case more."""
    hard = np.repeat(np.arange(100) % 2, 2).astype(np.float64)
    better = hard.copy()
    better[0] = 1.0
    session = (np.arange(200) // 2).astype(np.int32)
    columns = [session_sums(v, session, 100) for v in (hard, better, np.ones(200))]
    sums = resampled_sums(np.stack(columns, axis=1))
    means = [ratio(sums[:, n], sums[:, 2]) for n in (0, 1)]

    paired, alone = estimate(0.005, means[1] - means[0]), estimate(0.5, means[0])

    assert 0 <= paired.low <= 0.005 <= paired.high
    assert paired.high - paired.low < (alone.high - alone.low) / 5


def test_resamples_without_a_case_do_not_count() -> None:
    means = ratio(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 2.0]))

    assert np.isnan(means[0])
    found = estimate(0.75, means)
    assert 0.5 <= found.low <= found.high <= 1.0
    assert np.isnan(estimate(0.75, means[:1]).low)


def covered(truth: float, *, by_session: bool) -> float:
    """Return the share of 200 simulated tests of 60 sessions whose interval holds the true mean.

    Each session has 8 cases and a hit rate of its own, so its cases are alike.
    """
    generator, held = np.random.default_rng(7), 0
    for _ in range(200):
        rates = generator.beta(0.5, 0.5, size=60)
        hits = (generator.random((60, 8)) < rates[:, None]).astype(np.float64).ravel()
        session = np.arange(480) // 8 if by_session else np.arange(480)
        found = estimate(float(hits.mean()), means_of(sums_of(hits.tolist(), session.tolist())))
        held += found.low <= truth <= found.high
    return held / 200


def test_95_percent_intervals_hold_the_truth_in_95_percent_of_cases() -> None:
    """Over sessions they do; over cases they would be far too narrow."""
    assert covered(0.5, by_session=True) == pytest.approx(0.95, abs=0.04)
    assert covered(0.5, by_session=False) < 0.8
