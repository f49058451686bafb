"""Rates count users, the split is tested by period, and a look at every day is allowed."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from training.experiments.comparison import (
    LIST_CLICKS,
    USER_CLICKS,
    compare,
    first_alarm,
    verdict,
)
from training.experiments.estimates import LogLift, UserRate, log_lift, rate
from training.experiments.outcomes import Outcomes
from training.experiments.sample_ratio import Period, sample_ratio
from training.experiments.sequential import half_width, likelihood_ratio, sequential_test

rng = np.random.default_rng


def test_the_variance_of_a_rate_is_that_of_users() -> None:
    """Four users who each saw two lists and clicked all or none: four facts, not eight."""
    clicked, lists = np.array([2.0, 0, 2, 0]), np.full(4, 2.0)
    residuals = [0.5, -0.5, 0.5, -0.5]  # (clicked − ½ · lists) / mean of lists

    found = rate(clicked, lists)

    assert found.value == 4 / 8
    assert found.variance == pytest.approx(sum(r * r for r in residuals) / 3 / 4)
    assert found.users_with_event == 2


def test_a_lift_is_the_ratio_of_rates_with_both_variances() -> None:
    new, old = UserRate(0.12, 0.0004, 500, 60), UserRate(0.1, 0.0001, 500, 50)

    lift = log_lift(new, old)

    assert lift.value == pytest.approx(math.log(1.2))
    assert lift.variance == pytest.approx(0.0004 / 0.12**2 + 0.0001 / 0.1**2)
    interval = lift.interval(0.05)
    assert interval.value == pytest.approx(0.2)
    assert interval.low == pytest.approx(1.2 * math.exp(-1.959964 * lift.variance**0.5) - 1)
    assert math.isnan(log_lift(UserRate(0.1, 0.01, 9, 1), old).value)  # one user with a click


def test_the_likelihood_ratio_is_the_mean_over_the_mixture_of_effects() -> None:
    lift, expected = LogLift(0.08, 0.03**2), 0.05
    likelihood = norm(scale=0.03).pdf

    def weighted(effect: float) -> float:
        return float(likelihood(lift.value - effect) * norm(scale=expected).pdf(effect))

    mixture = quad(weighted, -1, 1, points=[0.0, lift.value])[0]

    assert likelihood_ratio(lift, expected) == pytest.approx(mixture / likelihood(lift.value))


def test_the_interval_ends_where_the_likelihood_ratio_reaches_the_bound() -> None:
    half = half_width(0.0009, 0.05, 0.05)

    assert likelihood_ratio(LogLift(half, 0.0009), 0.05) == pytest.approx(1 / 0.05)
    assert half > 1.96 * 0.03  # any look costs width


def test_the_p_value_never_rises_and_days_without_data_do_not_count() -> None:
    nothing = LogLift(math.nan, math.nan)
    lifts = [nothing, LogLift(0.2, 0.01), LogLift(0.2, 0.001), nothing, LogLift(0.0, 0.0001)]

    looks = sequential_test(lifts, error=0.05)

    p_values = [look.p_value for look in looks]
    assert p_values[0] == 1
    assert p_values == sorted(p_values, reverse=True)
    assert p_values[2] == p_values[4] < 0.05
    assert first_alarm(looks, 0.05) == 3


def test_a_split_is_tested_in_each_period_of_constant_shares() -> None:
    """300 of 1,100 users would be too many for 10 %, and too few for 50 %."""
    periods = [Period(0, 1, {"old": 90, "new": 10}), Period(1, 2, {"old": 50, "new": 50})]
    counts = [{"old": 460, "new": 40}, {"old": 310, "new": 290}]
    terms = (460 - 450) ** 2 / 450 + (40 - 50) ** 2 / 50 + (310 - 300) ** 2 / 300 + 10**2 / 300

    ratio = sample_ratio(counts, periods)

    assert ratio.users == {"old": 770, "new": 330}
    assert ratio.expected == {"old": 750, "new": 350}
    assert ratio.p_value == pytest.approx(math.exp(-terms / 2))  # chi-square of two degrees
    assert not ratio.is_mismatch
    assert sample_ratio([{"old": 500}, {"old": 300, "new": 300}], periods).is_mismatch


def two_variants(new: float, old: float = 0.2, users: int = 4000, days: int = 3) -> Outcomes:
    """Return outcomes of users who see five lists a day."""
    generator = rng(0)
    variant = np.arange(users) % 2
    user = np.tile(np.arange(users), days)
    clicked = generator.binomial(5, np.where(variant[user] == 1, new, old)).astype(float)
    day = np.repeat(np.arange(days), users)
    lists = np.full(len(user), 5.0)
    return Outcomes(["old", "new"], variant, user, day, lists, clicked, np.zeros(len(user)))


def test_the_verdict_names_a_difference_a_draw_and_a_broken_split() -> None:
    better, equal = compare(two_variants(0.24)), compare(two_variants(0.2))
    broken = sample_ratio([{"old": 2000, "new": 1700}], [Period(0, 1, {"old": 50, "new": 50})])

    assert verdict(better)[0].startswith("new is better than old")
    assert verdict(equal)[0].startswith("No difference is shown between new and old")
    assert verdict(compare(two_variants(0.24), broken))[0].startswith("Do not use these figures")
    assert "too few users" in verdict(compare(two_variants(0.2, users=40, days=1)))[0]
    metrics = better.variants[1].metrics
    # with as many lists of every user, both rates are the same
    assert metrics[LIST_CLICKS].rate.value == pytest.approx(metrics[USER_CLICKS].rate.value)
    assert len(metrics[LIST_CLICKS].looks) == 3


def test_a_difference_that_turns_after_it_was_shown_is_no_verdict() -> None:
    """Visitors who like what is new, and then get used to it: the p-value never rises again."""
    compared = compare(two_variants(0.24))
    main, new = compared.variants
    lifts = [LogLift(0.2, 0.001), LogLift(0.05, 0.0009), LogLift(-0.01, 0.0008)]
    looks = sequential_test(lifts, error=compared.error)
    turned = replace(new.metrics[LIST_CLICKS], looks=looks)
    new = replace(new, metrics={LIST_CLICKS: turned})

    sentence = verdict(replace(compared, variants=[main, new]))[0]

    assert first_alarm(looks, compared.error) == 1
    assert sentence.startswith("new was better than old until day 1, and the difference has turned")
