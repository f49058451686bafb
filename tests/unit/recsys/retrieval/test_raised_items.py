"""Items whose bias is higher than in the index are found although the index overlooks them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.allowed_items import AllowedItems
from recsys.neighbours.blend import Blend
from recsys.retrieval.exact import ExactScan, RankingQuery
from recsys.retrieval.int8 import Int8Index
from recsys.retrieval.item_scan import ItemScan
from recsys.retrieval.rerank import Reranked
from tests.support.bundles.small_indexes import ITEMS, hidden_states, item_vectors
from tests.unit.recsys.retrieval.test_top_k import (
    ADDITIONS,
    FALLING,
    allowed_sets,
    blend,
    clicks,
    exact_scan,
    items_of,
)


def scans(seed: int, blending: Blend | None) -> tuple[ExactScan, ExactScan]:
    """Return the scan of the index's biases, and one with 40 items raised."""
    random = np.random.default_rng(seed)
    raised = np.sort(random.choice(ITEMS, 40, replace=False))
    matrix, bias = item_vectors(9.0)
    more = torch.zeros(ITEMS)
    more[torch.from_numpy(raised)] = torch.from_numpy(random.uniform(0, 9, 40).astype(np.float32))
    before = exact_scan(matrix, bias, 9.0)
    repeats = FALLING if blending is not None else ADDITIONS["falling"].repeats
    return before, ExactScan(before._model, matrix, bias + more, repeats, blending, raised)


@pytest.mark.parametrize("blending", [None, blend(0.1, normalizing=7, votes=3)])
@given(
    rows=st.integers(1, 4),
    seed=st.integers(0, 50),
    k=st.integers(1, 60),
    allowed=allowed_sets(),
    excluded=st.lists(st.integers(0, ITEMS - 1), max_size=20),
)
def test_lists_with_raised_items_are_those_of_an_exact_scan(
    blending: Blend | None,
    rows: int,
    seed: int,
    k: int,
    allowed: AllowedItems | None,
    excluded: list[int],
) -> None:
    before, exact = scans(seed, blending)
    index = Int8Index.of(before.matrix, before.bias, 3.0)
    hidden, queries = hidden_states(rows, seed), [RankingQuery(k, excluded, allowed)] * rows

    scan = ItemScan(before.matrix, before.bias, lambda: np.arange(ITEMS, dtype=np.int32))
    retrieval = Reranked(index, before, 9.0, scan, few_allowed=40).over(exact)
    found = retrieval.top_k(hidden, clicks(rows), queries)

    assert items_of(found) == items_of(exact.top_k(hidden, clicks(rows), queries))


def test_an_index_alone_overlooks_them() -> None:
    """So the law above would notice raised items that are no candidates."""
    before, exact = scans(1, None)
    unaware = ExactScan(before._model, exact.matrix, exact.bias, exact.repeats)
    retrieval = Reranked(Int8Index.of(before.matrix, before.bias, 3.0), unaware, 9.0)

    found = retrieval.top_k(hidden_states(4), clicks(4), [RankingQuery(5)] * 4)

    expected = exact.top_k(hidden_states(4), clicks(4), [RankingQuery(5)] * 4)
    assert items_of(found) != items_of(expected)
