from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data.sessions import Sessions, reindex
from recsys.errors import BadInput
from tests.support.training.builders import words
from training.evaluation.evaluate import evaluate

CATALOGUE = ("a", "b", "c", "d")


class Alphabet:
    """Scorer that ranks a, b, c, d in this order."""

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> torch.Tensor:
        cases = sum(len(session) - 1 for session in sessions)
        return torch.tensor([[4.0, 3.0, 2.0, 1.0]]).expand(cases, 4)


class Indifferent:
    """Scorer with equal scores for all items."""

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> torch.Tensor:
        return torch.zeros(sum(len(session) - 1 for session in sessions), 4)


class Order:
    """Scorer that keeps the sessions it received."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> torch.Tensor:
        self.asked += [session.tolist() for session in sessions]
        scores = torch.zeros(sum(len(session) - 1 for session in sessions), 4)
        case = 0
        for session in sessions:
            for target in session[1:].tolist():
                scores[case, target] = 1.0
                case += 1
        return scores


def indexed(*sessions: str) -> Sessions:
    return reindex(words(*sessions), CATALOGUE)


def test_every_next_click_of_every_session_is_a_case() -> None:
    result = evaluate(Alphabet(), indexed("dab", "cd"), items=4)

    assert result.cases == 3  # a, b and d are asked for; their ranks are 1, 2 and 4
    assert result.metrics["recall@1"] == pytest.approx(1 / 3)
    assert result.metrics["mrr@20"] == pytest.approx((1 / 1 + 1 / 2 + 1 / 4) / 3)
    assert result.warning is None


def test_an_unseen_target_is_a_miss_and_is_counted() -> None:
    """Keep cases of a new item (checklist 8)."""
    result = evaluate(Alphabet(), indexed("da", "dz"), items=4)

    assert (result.cases, result.unseen_targets) == (2, 1)
    assert result.metrics["recall@20"] == pytest.approx(1 / 2)


def test_collapsed_scores_have_low_metrics_and_a_warning() -> None:
    result = evaluate(Indifferent(), indexed("ab", "cd"), items=4)

    assert result.metrics["recall@1"] == 0
    assert result.warning is not None
    assert "collapsed" in result.warning


def test_targets_and_scores_stay_together_however_sessions_are_batched() -> None:
    scorer = Order()

    result = evaluate(scorer, indexed("abcd", "ba", "dc", "cab"), items=4)

    assert result.metrics["recall@1"] == 1.0
    assert sorted(map(len, scorer.asked)) == list(map(len, scorer.asked))


def test_coverage_counts_the_items_of_all_lists() -> None:
    assert evaluate(Alphabet(), indexed("ab"), items=4).metrics["coverage@20"] == 1.0


def test_a_test_part_of_unknown_items_alone_is_refused() -> None:
    with pytest.raises(BadInput, match="1 next clicks, none on an item of the catalogue"):
        evaluate(Alphabet(), indexed("yz"), items=4)


def test_sessions_of_one_click_hold_no_case() -> None:
    with pytest.raises(BadInput, match="no session of at least 2 clicks"):
        evaluate(Alphabet(), indexed("a", "b"), items=4)
