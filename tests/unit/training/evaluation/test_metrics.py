import math

import pytest
import torch

from training.evaluation.metrics import Coverage, metrics_at

RANKS = torch.tensor([1, 3, 21])


def test_recall_is_the_share_of_ranks_within_k() -> None:
    found = metrics_at(RANKS, (1, 20))

    assert found["recall@1"] == pytest.approx(1 / 3)
    assert found["recall@20"] == pytest.approx(2 / 3)


def test_mrr_is_the_mean_reciprocal_rank_and_nothing_beyond_k() -> None:
    assert metrics_at(RANKS, (20,))["mrr@20"] == pytest.approx((1 / 1 + 1 / 3 + 0) / 3)


def test_ndcg_discounts_by_the_logarithm_of_the_rank() -> None:
    expected = (1 / math.log2(2) + 1 / math.log2(4) + 0) / 3

    assert metrics_at(RANKS, (20,))["ndcg@20"] == pytest.approx(expected)


def test_coverage_is_the_share_of_items_shown_at_least_once() -> None:
    coverage = Coverage(items=8, k=2)
    coverage.add(torch.tensor([[0, 1], [1, 2]]))
    coverage.add(torch.tensor([[2, 0]]))

    assert coverage.share() == pytest.approx(3 / 8)
