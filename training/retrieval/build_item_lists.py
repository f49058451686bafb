"""Build the item lists of a trained model by scoring every pair of items.

The work grows with the square of the catalogue: a product of two 8-bit vectors for each pair of
items (docs/serving.md has the minutes). The best pairs are scored again in float32.
"""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.predictor import Predictor
from recsys.retrieval.candidates import MEASURED_K, IndexSettings, with_bias
from recsys.retrieval.int8 import CANDIDATES_PER_GROUP, Int8Codes
from recsys.retrieval.item_lists import ItemLists
from recsys.retrieval.rerank import query_vectors

LIST_LENGTH = 64  # items of a list
MAX_COMMON = 2048  # items that are in the most lists and are scored for every query instead
COMMON_SHARE = 0.1  # of a small catalogue
SAMPLED_CLICKS = 4000  # clicks whose lists decide which items are common
LISTS_AT_ONCE = 128  # lists, whose scores stay in the cache

OnProgress = Callable[[float], None]  # takes the share that is done


def build_item_lists(
    predictor: Predictor,
    scale: float,
    bias_unit: float,
    on_progress: OnProgress = lambda share: None,
) -> ItemLists:
    """Build the lists of every item, on all cores.

    Args:
        predictor: the trained model.
        scale: scale of its cosine scores, 0 for inner products.
        bias_unit: about the length of a query vector; see `IndexSettings`.
        on_progress: called with the share of the lists that is done.

    Returns:
        The index, with one probe.
    """
    all_items = np.arange(len(predictor.catalogue))
    common = _common(predictor, NextItems(predictor, all_items, scale, bias_unit))
    next_items = NextItems(predictor, np.setdiff1d(all_items, common), scale, bias_unit)
    length = min(LIST_LENGTH, len(all_items) - len(common))
    lists = torch.empty((len(all_items), length), dtype=torch.int32)
    for start, block in next_items.after_each(length):
        lists[start : start + len(block)] = block
        on_progress((start + len(block)) / len(all_items))
    settings = IndexSettings("lists", bias_unit, probes=1)
    vectors = torch.from_numpy(next_items.vectors_of(common))
    return ItemLists(lists, torch.from_numpy(common.astype(np.int32)), vectors, settings)


def _common(predictor: Predictor, next_items: "NextItems") -> NDArray[np.int64]:
    """Return the items that are in most lists of clicks sampled by popularity."""
    counts = np.maximum(predictor.catalogue.counts, 1)
    random = np.random.default_rng(1)
    clicked = random.choice(len(counts), SAMPLED_CLICKS, p=counts / counts.sum())
    blocks = np.array_split(clicked, math.ceil(SAMPLED_CLICKS / LISTS_AT_ONCE))
    length = min(MEASURED_K, len(counts))
    listed = torch.cat([next_items.after(torch.from_numpy(b), length) for b in blocks])
    times = np.bincount(listed.flatten().numpy(), minlength=len(counts))
    most = min(MAX_COMMON, int(COMMON_SHARE * len(counts)))
    return np.sort(np.argsort(-times, kind="stable")[:most])


class NextItems:
    """The items, out of some, that score highest after a single click."""

    def __init__(
        self, predictor: Predictor, items: NDArray[np.int64], scale: float, bias_unit: float
    ) -> None:
        """Round the vectors of the items.

        Args:
            predictor: the trained model.
            items: (C,) int64 item indices that may be in a list.
            scale: scale of cosine scores, 0 for inner products.
            bias_unit: see `IndexSettings`.
        """
        exact = predictor.exact_retrieval
        self._predictor, self._scale, self._bias_unit = predictor, scale, bias_unit
        self._matrix, self._bias = exact.matrix, exact.bias
        self._items = torch.from_numpy(items)
        self._codes = Int8Codes.of(self.vectors_of(items))

    def vectors_of(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return item vectors with their bias as an index holds them: (C, width) float32."""
        bias = self._bias.numpy()[items] / self._bias_unit
        return with_bias(self._matrix.numpy()[items], bias)

    def after_each(self, length: int) -> Iterator[tuple[int, Tensor]]:
        """Yield (first clicked item, lists after it and the items behind it), on all cores."""
        starts = range(0, len(self._matrix), LISTS_AT_ONCE)

        def block(start: int) -> Tensor:
            clicked = torch.arange(start, min(start + LISTS_AT_ONCE, len(self._matrix)))
            return self.after(clicked, length)

        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            yield from zip(starts, pool.map(block, starts), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)

    @torch.inference_mode()
    def after(self, clicked: Tensor, length: int) -> Tensor:
        """Return the items that score highest after one click.

        Args:
            clicked: (B,) int64 item indices.
            length: length of a list.

        Returns:
            (B, length) int32 item indices, in falling score.
        """
        queries = query_vectors(self._predictor.hidden_after(clicked), self._scale)
        wide = with_bias(queries, self._bias_unit)
        candidates = torch.from_numpy(self._codes.search(wide, CANDIDATES_PER_GROUP * length))
        items = self._items[candidates]
        scores = torch.bmm(self._matrix[items], torch.from_numpy(queries).unsqueeze(2)).squeeze(2)
        best = torch.topk(scores + self._bias[items], length, dim=1)[1]
        return items.gather(1, best).to(torch.int32)
