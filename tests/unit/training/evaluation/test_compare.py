"""Comparison of the model with baselines: one protocol, one set of resamples, known figures."""

from functools import partial

import numpy as np
import pytest
import torch
from rich.console import Console

from data.batches.selection import Selection
from tests.support.training.builders import words
from tests.support.training.scorers import BACKWARD, COUNTS, FORWARD, Fixed, evaluated
from training.baselines import learners
from training.baselines.popularity import Popularity
from training.evaluation import compare
from training.evaluation import evaluate as evaluation
from training.evaluation.compare import (
    COMPARED,
    by_popularity,
    by_position,
    case_values,
    compare_with_intervals,
    deciles,
    evaluate_with_baselines,
)
from training.evaluation.metrics import metrics_at
from training.model.weights import Weights, eager_predictor
from training.recipe import Recipe
from training.trainer import FromScratch

RECIPE = Recipe(hidden=8)


def test_every_case_keeps_its_session_its_position_its_target_and_its_rank() -> None:
    ranked = evaluated("abz", "c", "yx", model=FORWARD)["model"].ranked

    assert ranked.session.tolist() == [0, 0, 1]  # "c" holds no case
    assert ranked.before.tolist() == [1, 2, 1]
    assert ranked.target.tolist() == [1, -1, 23]
    assert ranked.rank.tolist() == [2, 2**31 - 1, 24]


def test_case_values_average_to_the_metrics_of_the_evaluator() -> None:
    ranks = np.array([1, 2, 5, 6, 20, 21, 2**31 - 1], dtype=np.int32)

    expected = metrics_at(torch.from_numpy(ranks.astype(np.int64)))

    for metric in COMPARED:
        assert case_values(ranks, metric).mean() == pytest.approx(expected[metric])


def test_figures_are_the_evaluators_and_lie_within_their_intervals() -> None:
    results = evaluated(*["ab", "yx", "bac", "xa"] * 10, model=FORWARD, other=BACKWARD)

    found = compare_with_intervals(results, COUNTS)

    assert (found.sessions, found.cases, found.unseen_targets) == (40, 50, 0)
    for name, result in results.items():
        for metric in COMPARED:
            figure = found.figures[name][metric]
            assert figure.value == result.metrics[metric]
            assert figure.low <= figure.value <= figure.high


def test_the_difference_is_to_the_best_baseline_of_each_metric() -> None:
    results = evaluated(
        *["ab"] * 30, model=FORWARD, good=Fixed("b" + "acdefghijklmnopqrstuvwxy"), bad=BACKWARD
    )

    found = compare_with_intervals(results, COUNTS)

    assert found.sliced_baseline == "good"
    mrr = next(d for d in found.differences if d.metric == "mrr@20")
    assert mrr.other == "good"
    assert mrr.gain.value == pytest.approx(1 / 2 - 1 / 1)
    # all sessions are alike, so there is no doubt about it
    assert (mrr.gain.low, mrr.gain.high) == pytest.approx((-1 / 2, -1 / 2))


def test_a_relative_of_the_model_is_compared_but_is_no_baseline() -> None:
    better = Fixed("b" + "acdefghijklmnopqrstuvwxy")
    results = evaluated(*["ab"] * 30, model=FORWARD, markov=BACKWARD)
    results |= evaluated(*["ab"] * 30, **{"model alone": better})

    found = compare_with_intervals(results, COUNTS)

    assert found.sliced_baseline == "markov"
    assert {(d.metric, d.other) for d in found.to_relatives} == {
        ("recall@20", "model alone"),
        ("mrr@20", "model alone"),
    }
    assert found.to_relatives[1].gain.value == pytest.approx(1 / 2 - 1 / 1)


def test_a_simple_baseline_is_compared_where_it_is_ahead() -> None:
    """FORWARD finds the item at rank 2, the better scorer at rank 1; vstan is not a simple one."""
    better = Fixed("b" + "acdefghijklmnopqrstuvwxy")
    results = evaluated(*["ab"] * 30, model=FORWARD, markov=better, popularity=FORWARD)
    results |= evaluated(*["ab"] * 30, vstan=better)

    found = compare_with_intervals(results, COUNTS)

    assert {(d.metric, d.other) for d in found.to_simple} == {
        ("recall@1", "markov"),
        ("mrr@20", "markov"),
        ("ndcg@20", "markov"),
    }
    assert found.to_simple[0].gain.value == pytest.approx(-1.0)


def test_without_baselines_there_is_no_difference() -> None:
    found = compare_with_intervals(evaluated(*["ab"] * 12, model=FORWARD), COUNTS)

    assert (list(found.differences), found.sliced_baseline) == ([], None)
    assert list(found.positions[0].figures) == ["model"]


def test_accuracy_by_position_is_counted_by_hand() -> None:
    """After one click: b (rank 2) and y (25, a miss); after two: c (rank 3), 10 sessions each."""
    found = compare_with_intervals(evaluated(*["abc", "ay"] * 10, model=FORWARD), COUNTS)

    parts = {part.slice.name: (part.cases, part.figures["model"]) for part in found.positions}
    assert list(parts) == ["1", "2"]
    assert (parts["1"][0], parts["2"][0]) == (20, 10)
    assert parts["1"][1]["recall@20"].value == 1 / 2
    assert parts["1"][1]["mrr@20"].value == pytest.approx((1 / 2 + 0) / 2)
    assert parts["2"][1]["mrr@20"].value == pytest.approx(1 / 3)
    assert parts["2"][1]["mrr@20"].low == pytest.approx(1 / 3)


def test_accuracy_by_popularity_is_counted_by_hand() -> None:
    """A's clicks have their middle at 12.5 of 325, the first decile; y's at 324.5, the last."""
    found = compare_with_intervals(evaluated(*["ba", "by", "bz"] * 10, model=FORWARD), COUNTS)

    parts = {part.slice.name: part for part in found.popularity}
    assert list(parts) == ["1", "10", "not in training"]
    assert [part.cases for part in parts.values()] == [10, 10, 10]
    values = [part.figures["model"]["mrr@20"].value for part in parts.values()]
    assert values == [1.0, 0.0, 0.0]


def test_the_slices_add_up_to_all_cases() -> None:
    results = evaluated(*["abcde", "yx", "bacz", "xa"] * 10, model=FORWARD, other=BACKWARD)

    found = compare_with_intervals(results, COUNTS)

    for parts in (found.positions, found.popularity):
        for name, result in results.items():
            for metric in ("recall@20", "mrr@20"):
                sums = [part.cases * part.figures[name][metric].value for part in parts]
                assert sum(sums) / found.cases == pytest.approx(result.metrics[metric])


def test_a_slice_of_few_sessions_has_no_interval() -> None:
    found = compare_with_intervals(evaluated(*["ab"] * 20, "abc", model=FORWARD), COUNTS)

    few = found.positions[1].figures["model"]["mrr@20"]
    assert few.value == pytest.approx(1 / 3)
    assert np.isnan(few.low)
    assert np.isnan(few.high)


def test_positions_count_the_clicks_before_the_target() -> None:
    before = np.array([1, 2, 1, 7, 10, 50, 51, 400], dtype=np.int32)

    found = {part.name: np.flatnonzero(part.mask).tolist() for part in by_position(before)}

    assert found == {"1": [0, 2], "2": [1], "6–10": [3, 4], "21–50": [5], "51+": [6, 7]}


def test_every_case_is_in_one_position_and_one_popularity_group() -> None:
    before = np.arange(1, 80, dtype=np.int32)
    target = np.arange(-1, 78, dtype=np.int32) % 30 - 1
    counts = (np.arange(30) * 7 % 11 + 1).astype(np.int64)

    for parts in (by_position(before), by_popularity(target, counts)):
        assert (np.sum([part.mask for part in parts], axis=0) == 1).all()


def test_a_decile_holds_a_tenth_of_the_training_clicks() -> None:
    """10 clicks on item 3, 5 on 1 and 4, 1 on each of 80 others: 100 clicks in all."""
    counts = np.ones(85, dtype=np.int64)
    counts[3], counts[1], counts[4] = 10, 5, 5
    counts[[0, 2]] = 0  # known from an earlier training, no longer clicked

    found = deciles(counts)

    assert found[3] == 0  # its clicks are numbers 1 to 10
    assert found[[1, 4]].tolist() == [1, 1]  # 11 to 15 and 16 to 20
    assert [int(counts[found == n].sum()) for n in range(10)] == [10] * 10
    assert (found[[0, 2]] == 9).all()


def test_an_item_of_most_clicks_leaves_deciles_empty() -> None:
    """One item has 60 of 100 clicks; their middle, 30, lies at the start of the fourth decile."""
    counts = np.array([60, 40], dtype=np.int64)

    assert deciles(counts).tolist() == [3, 8]  # 60 + 40 / 2 = 80
    parts = by_popularity(np.array([0, 1, 1, -1], dtype=np.int32), counts)
    assert [(part.name, int(part.mask.sum()), part.items, part.clicks) for part in parts] == [
        ("4", 1, 1, (60, 60)),
        ("9", 2, 1, (40, 40)),
        ("not in training", 1, None, None),
    ]


def test_groups_without_a_case_are_left_out() -> None:
    parts = by_popularity(np.array([1], dtype=np.int32), np.array([60, 40], dtype=np.int64))

    assert [part.name for part in parts] == ["9"]


def test_a_baseline_that_takes_too_long_is_left_out_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model has all the time that it needs."""
    monkeypatch.setattr(compare, "BASELINE_SECONDS", -1.0)
    monkeypatch.setattr(evaluation, "CASES_AT_ONCE", 4)  # of baselines that score a few items
    sessions = words(*["abc", "bca", "cab"] * 4)
    catalogue = FromScratch().catalogue(sessions)
    weights = Weights.fresh(RECIPE.size(len(catalogue)), torch.Generator().manual_seed(1))
    model = eager_predictor(weights, catalogue, RECIPE)

    found = evaluate_with_baselines(model, catalogue, sessions, sessions, Console(quiet=True))

    assert list(found.results) == ["model"]
    assert found.left_out == list(learners(catalogue, Selection.of(sessions)))
    (sentence,) = found.sentences
    assert sentence.startswith("Not compared with popularity, recent popularity, ")
    comparison = compare_with_intervals(found.results, catalogue.counts)
    assert (comparison.differences, comparison.sliced_baseline) == ([], None)


def test_learning_takes_of_the_time_of_a_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("training.evaluation.compare.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(evaluation, "CASES_AT_ONCE", 4)
    sessions = words(*["abc", "bca", "cab"] * 4)
    catalogue = FromScratch().catalogue(sessions)
    weights = Weights.fresh(RECIPE.size(len(catalogue)), torch.Generator().manual_seed(1))
    model = eager_predictor(weights, catalogue, RECIPE)

    def learned_in(seconds: float) -> Popularity:
        clock[0] += seconds
        return Popularity(catalogue)

    baselines = {"quick": partial(learned_in, 600.0), "slow": partial(learned_in, 601.0)}
    monkeypatch.setattr(compare, "learners", lambda catalogue, train: baselines)

    found = evaluate_with_baselines(model, catalogue, sessions, sessions, Console(quiet=True))

    assert (list(found.results), found.left_out) == (["model", "quick"], ["slow"])
