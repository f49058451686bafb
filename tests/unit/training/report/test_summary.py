"""The summary states what the intervals support, and nothing more."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

from tests.support.training.scorers import BACKWARD, COUNTS, FORWARD, evaluated
from training.evaluation.compare import (
    COMPARED,
    Comparison,
    Difference,
    Limits,
    Slice,
    SliceResult,
    compare_with_intervals,
)
from training.evaluation.intervals import Estimate
from training.report.summary import metric_name, outcome, summary

BETTER, WORSE = Estimate(0.02, 0.01, 0.03), Estimate(-0.02, -0.03, -0.01)
NEITHER = Estimate(0.001, -0.002, 0.004)


def part(name: str, figure: Estimate, clicks: tuple[int, int] | None = None) -> SliceResult:
    return SliceResult(
        Slice(name, np.ones(1, dtype=bool), None if clicks is None else 5, clicks),
        100,
        {"model": {"recall@20": figure}},
    )


def comparison(
    gains: Mapping[str, tuple[str, Estimate]],
    baselines: tuple[str, ...] = ("markov", "vstan"),
    to_relatives: tuple[Difference, ...] = (),
    positions: tuple[SliceResult, ...] = (),
    popularity: tuple[SliceResult, ...] = (),
) -> Comparison:
    """Build a comparison; gains: metric → its best baseline, and the model less that."""
    flat = {metric: Estimate(0.5, 0.48, 0.52) for metric in COMPARED}
    return Comparison(
        sessions=50,
        cases=1200,
        unseen_targets=0,
        figures={"model": flat, **dict.fromkeys(baselines, flat)},
        differences=[Difference(metric, *gain) for metric, gain in gains.items()],
        to_relatives=to_relatives,
        to_simple=[],
        sliced_baseline=None,
        positions=positions,
        popularity=popularity,
    )


def test_a_sample_and_limited_baselines_are_said_with_the_interval() -> None:
    limits = Limits(900, 20_000, ["Markov learned from less."])
    found = dataclasses.replace(comparison({}), limits=limits)

    assert summary(found)[1:3] == [
        "These cases are of a random sample of 50 of 900 test sessions, which have 20,000 next "
        "clicks; with 95 % confidence, Recall@20 of all is from 0.4800 to 0.5200.",
        "Markov learned from less.",
    ]


@pytest.mark.parametrize(
    ("recall", "mrr", "sentence"),
    [
        (("vstan", BETTER), ("vstan", BETTER),
         "It beats vstan by 0.0200 on Recall@20 and by 0.0200 on MRR@20; of two baselines that is "
         "the best."),
        (("vstan", BETTER), ("vstan", NEITHER),
         "It beats vstan by 0.0200 on Recall@20 and is not clearly apart from it on MRR@20; of two "
         "baselines that is the best."),
        (("vstan", BETTER), ("markov", WORSE),
         "It beats vstan by 0.0200 on Recall@20 and falls short of markov by 0.0200 on MRR@20; of "
         "two baselines these are the best."),
        (("vstan", NEITHER), ("vstan", NEITHER),
         "It is not clearly apart from vstan on Recall@20 and on MRR@20; of two baselines that is "
         "the best."),
    ],
)  # fmt: skip
def test_the_best_baselines_are_named(
    recall: tuple[str, Estimate], mrr: tuple[str, Estimate], sentence: str
) -> None:
    said = summary(comparison({"recall@20": recall, "mrr@20": mrr}))

    assert said[:2] == [
        "The next click is among the model's first 20 items in 50.0% of 1,200 cases.", sentence,
    ]  # fmt: skip


def test_a_relative_is_told_apart_from_baselines() -> None:
    alone = tuple(Difference(metric, "model alone", BETTER) for metric in ("recall@20", "mrr@20"))

    said = summary(comparison({}, ("model alone",), alone))

    assert said[1] == ("It beats the model alone by 0.0200 on Recall@20 and by 0.0200 on MRR@20.")


def test_a_group_is_weak_only_where_its_whole_interval_is_below_all() -> None:
    low, unsure, unknown = (
        Estimate(0.3, 0.2, 0.4),
        Estimate(0.2, 0.1, 0.55),
        Estimate(0.1, np.nan, np.nan),
    )
    said = summary(
        comparison(
            {},
            positions=(part("1", low), part("2", unsure), part("21–50", unknown)),
            popularity=(part("10", low, (1, 3)), part("not in training", Estimate(0.0, 0.0, 0.0))),
        )
    )

    assert said[-1] == (
        "It is weakest on sessions of one click (Recall@20 0.3000) and on items of 1 to 3 clicks "
        "in training (Recall@20 0.3000)."
    )
    assert summary(comparison({}, positions=(part("2", unsure),)))[-1] == (
        "No length of session and no kind of item stands out as weak."
    )


def test_a_comparison_of_evaluations_has_a_summary() -> None:
    results = evaluated(*["ab", "bac", "xa"] * 10, model=FORWARD, markov=BACKWARD)

    said = summary(compare_with_intervals(results, COUNTS))

    assert said[1].startswith("It beats markov by ")
    assert "baselines" not in said[1]


def test_an_evaluation_without_baselines_compares_nothing() -> None:
    results = evaluated(*["ab", "bac"] * 10, model=FORWARD)

    said = summary(compare_with_intervals(results, COUNTS))

    assert len(said) == 2
    assert outcome(Estimate(0.0, np.nan, np.nan)) == "not clearly apart"
    assert [metric_name(m) for m in ("recall@20", "mrr@5")] == ["Recall@20", "MRR@5"]


@pytest.mark.parametrize(
    ("gain", "sentence"),
    [
        (WORSE, "The simple baseline session popularity is ahead on Recall@1 by 0.0200, MRR@20 by "
         "0.0010 (not clearly apart). Visitors return to the items of their visit: the bonus for "
         "such items (repeats = auto) is fitted where there are enough sessions to validate on."),
        (Estimate(-0.02, -0.05, 0.01), "The simple baseline session popularity is ahead on "
         "Recall@1 by 0.0200 (not clearly apart), MRR@20 by 0.0010 (not clearly apart). More test "
         "sessions would tell."),
    ],
)  # fmt: skip
def test_a_simple_baseline_that_is_ahead_is_named_with_what_to_do(
    gain: Estimate, sentence: str
) -> None:
    """Also on a single metric; the advice needs a difference that is certain."""
    ahead = [
        Difference("recall@1", "session popularity", gain),
        Difference("mrr@20", "session popularity", Estimate(-0.001, -0.004, 0.002)),
    ]
    compared = dataclasses.replace(comparison({}), to_simple=ahead)

    assert sentence in summary(compared)
    assert not [s for s in summary(comparison({})) if "simple baseline" in s]
