"""Item lists: the candidates come from the last clicks' lists and the common items."""

import numpy as np
import pytest
import torch

from recsys.retrieval import item_lists as module
from recsys.retrieval.candidates import IndexSettings, with_bias
from recsys.retrieval.item_lists import ItemLists
from tests.support.bundles.small_indexes import COMMON, circular_lists, item_vectors


def test_candidates_are_common_items_and_the_lists_of_the_last_clicks() -> None:
    matrix, bias = item_vectors(0.0)
    index = circular_lists(matrix, bias, length=3)
    queries = matrix.numpy()[:1] * 100  # item 0 is by far the best of the common items

    (one,) = index.candidates(queries, [[200, 40, 40]], 10)
    (two,) = index.with_probes(2).candidates(queries, [[200, 40, 40]], 10)

    assert [item for item in one.tolist() if item >= COMMON] == [70, 71, 72]
    assert [item for item in two.tolist() if item >= COMMON] == [70, 71, 72, 230, 231, 232]
    assert 0 in one.tolist()
    assert sum(item < COMMON for item in one.tolist()) == 10 + 10 // 5 + 10  # of 30


@pytest.mark.parametrize("count", [20, 100])
def test_the_best_common_items_are_candidates_though_their_vectors_are_rounded(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same ones on processors with and without products of 8 bits, in a batch and alone."""
    random, common = np.random.default_rng(1), 2000
    vectors = with_bias(
        random.standard_normal((common, 64), dtype=np.float32),
        (random.standard_normal(common, dtype=np.float32) - 10) / 8,  # of rare items, as trained
    )
    lists = torch.zeros((common + 1, 1), dtype=torch.int32)
    parts = lists, torch.arange(1, common + 1, dtype=torch.int32), torch.from_numpy(vectors)
    settings = IndexSettings("lists", 8.0, probes=1)
    queries = random.standard_normal((50, 64), dtype=np.float32)
    index = ItemLists(*parts, settings)

    found = index.candidates(queries, [[0]] * 50, count)

    best = np.argsort(-(with_bias(queries, 8.0) @ vectors.T), axis=1)[:, :count] + 1
    for candidates, row in zip(found, best, strict=True):
        assert set(row.tolist()) <= set(candidates.tolist())
    alone = index.candidates(queries[:1], [[0]], count)
    assert np.array_equal(np.sort(alone), np.sort(found[:1]))
    monkeypatch.setattr(module, "has_int8_products", lambda: False)
    monkeypatch.setattr("recsys.retrieval.int8.int8_matmul", None)
    without = ItemLists(*parts, settings).candidates(queries, [[0]] * 50, count)
    assert np.array_equal(np.sort(without), np.sort(found))


@pytest.mark.parametrize("number", [np.nan, np.inf, 3e38])
def test_a_state_that_is_not_finite_finds_some_items(number: float) -> None:
    matrix, bias = item_vectors(0.0)
    index = circular_lists(matrix, bias, length=3)
    queries = np.full((1, matrix.size(1)), number, dtype=np.float32)

    assert index.candidates(queries, [[200]], 10).shape == (1, 3 + 22)
