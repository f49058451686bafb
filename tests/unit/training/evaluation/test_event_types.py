"""Metrics by the type of the target, and OTTO's weighted recall."""

import dataclasses

import numpy as np
import pytest

from tests.support.training.scorers import COUNTS, FORWARD, evaluated
from training.evaluation.compare import as_json, compare_with_intervals
from training.evaluation.evaluate import Evaluation
from training.evaluation.event_types import weighted_recall


def typed(event: list[int], types: tuple[str, ...]) -> Evaluation:
    """Return four cases with the ranks 2, 25, 3 and 24."""
    result = evaluated("abycx", model=FORWARD)["model"]
    ranked = dataclasses.replace(
        result.ranked, event=np.array(event, dtype=np.int8), event_types=types
    )
    return dataclasses.replace(result, ranked=ranked)


def test_weighted_recall_is_otto_s() -> None:
    ranked = typed([1, 1, 2, 3], ("addtocart", "pv", "buy")).ranked

    assert weighted_recall(ranked) == pytest.approx(0.3 * 1 / 2 + 0.1 * 1 / 1 + 0.6 * 0 / 1)


def test_without_a_target_of_each_kind_there_is_no_weighted_recall() -> None:
    assert weighted_recall(typed([1, 1, 2, 2], ("cart", "view", "buy")).ranked) is None
    assert weighted_recall(evaluated("abycx", model=FORWARD)["model"].ranked) is None


def test_metrics_are_given_by_the_type_of_the_target() -> None:
    results = {"model": typed([0, 1, 2, 2], ("cart", "view", "buy"))}

    values = as_json(results, compare_with_intervals(results, COUNTS))

    assert "weighted_recall@20" not in values
    assert values["event_types"] == {
        "none": {"cases": 1, "recall@20": 1.0, "mrr@20": 1 / 2},
        "cart": {"cases": 1, "recall@20": 0.0, "mrr@20": 0.0},
        "view": {"cases": 2, "recall@20": 1 / 2, "mrr@20": (1 / 3 + 0) / 2},
    }
