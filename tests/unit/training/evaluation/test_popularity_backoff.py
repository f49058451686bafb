"""Ranks and lists from a few scored items are those of all N scores."""

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.catalogue.catalogue import Catalogue
from recsys.model.ranking import target_ranks, top_k
from recsys.ragged import ScoredRaggedArray, offsets_of
from training.evaluation.popularity_backoff import PopularityBackoff

ITEMS = 9
CATALOGUE = Catalogue(tuple("abcdefghi"), np.array([3, 9, 9, 1, 4, 2, 7, 7, 5]))


class Written(PopularityBackoff):
    """Scorer with given scores, whatever is clicked."""

    def __init__(self, rows: Sequence[dict[int, float]]) -> None:
        super().__init__(CATALOGUE)
        self._rows = [sorted(row.items()) for row in rows]

    def sparse_scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> ScoredRaggedArray:
        entries = [entry for row in self._rows for entry in row]
        return ScoredRaggedArray(
            offsets_of(np.array([len(row) for row in self._rows])),
            np.array([item for item, _ in entries], dtype=np.int64),
            np.array([score for _, score in entries], dtype=np.float64),
        )

    def popularity_weight(self, rows: ScoredRaggedArray) -> NDArray[np.float64]:
        return np.full(len(rows), 0.5)


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(0, ITEMS - 1), st.sampled_from([1.0, 2.0, 2.5, 7.0])),
            st.integers(-1, ITEMS - 1),
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, ITEMS + 1),
)
def test_sparse_scores_rank_as_all_scores_do(
    cases: list[tuple[dict[int, float], int]], k: int
) -> None:
    scorer, targets = Written([row for row, _ in cases]), torch.tensor([t for _, t in cases])
    scores = scorer.scores_along([])

    found = scorer.ranked_along([], targets, k)

    conservative, standard = target_ranks(scores, targets)
    assert found.conservative.tolist() == conservative.tolist()
    assert found.standard.tolist() == standard.tolist()
    assert found.listed.tolist() == top_k(scores, k)[1].flatten().tolist()
