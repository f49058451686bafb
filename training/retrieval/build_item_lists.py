"""Build the item lists of a trained model by scoring every pair of items.

The work grows with the square of the catalogue, a product of two vectors in 8 bits for each pair
of items (docs/serving.md has the minutes); what these name is scored again in float32.
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
from recsys.retrieval.candidates import SHORTEST, IndexSettings, with_bias
from recsys.retrieval.exact import queries_of
from recsys.retrieval.int8 import WANTED_PER_GROUP, Int8Codes
from recsys.retrieval.item_lists import ItemLists

LENGTH = 64  # items of a list
COMMON = 2048  # items that stand in the most lists and are scored for every query instead
COMMON_SHARE = 0.1  # of a small catalogue
SAMPLE = 4000  # clicks whose lists say which items are common
AT_ONCE = 128  # lists, whose scores stay in the cache

Tell = Callable[[float], None]  # the share that is done


def build_item_lists(
    predictor: Predictor, scale: float, bias_unit: float, tell: Tell = lambda share: None
) -> ItemLists:
    """scale: of cosine scores; bias_unit: as `IndexSettings` has it."""
    every = np.arange(len(predictor.catalogue))
    common = _common(predictor, BestItems(predictor, every, scale, bias_unit))
    best = BestItems(predictor, np.setdiff1d(every, common), scale, bias_unit)
    length = min(LENGTH, len(every) - len(common))
    lists = torch.empty((len(every), length), dtype=torch.int32)
    for at, found in best.of_all(length):
        lists[at : at + len(found)] = found
        tell((at + len(found)) / len(every))
    settings = IndexSettings("lists", bias_unit, probes=1)
    vectors = torch.from_numpy(best.vectors_of(common))
    return ItemLists(lists, torch.from_numpy(common.astype(np.int32)), vectors, settings)


def _common(predictor: Predictor, best: "BestItems") -> NDArray[np.int64]:
    """The items that stand in most lists of clicks drawn as they fell."""
    counts = np.maximum(predictor.catalogue.counts, 1)
    draw = np.random.default_rng(1)
    clicked = draw.choice(len(counts), SAMPLE, p=counts / counts.sum())
    blocks = np.array_split(clicked, math.ceil(SAMPLE / AT_ONCE))
    listed = torch.cat([best.after(torch.from_numpy(some), SHORTEST) for some in blocks])
    times = np.bincount(listed.flatten().numpy(), minlength=len(counts))
    most = min(COMMON, int(COMMON_SHARE * len(counts)))
    return np.sort(np.argsort(-times, kind="stable")[:most])


class BestItems:
    """Of some items, those that score highest once one is clicked, and nothing before it."""

    def __init__(
        self, predictor: Predictor, items: NDArray[np.int64], scale: float, bias_unit: float
    ) -> None:
        exact = predictor.exact_retrieval
        self._predictor, self._scale, self._unit = predictor, scale, bias_unit
        self._matrix, self._bias = exact.matrix, exact.bias
        self._items = torch.from_numpy(items)
        self._codes = Int8Codes.of(self.vectors_of(items))

    def vectors_of(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """As an index holds them: (B, W) float32."""
        bias = self._bias.numpy()[items] / self._unit
        return with_bias(self._matrix.numpy()[items], bias)

    def of_all(self, length: int) -> Iterator[tuple[int, Tensor]]:
        """(first item clicked, lists of what follows it and those after it), by all cores."""
        starts = range(0, len(self._matrix), AT_ONCE)

        def some(start: int) -> Tensor:
            clicked = torch.arange(start, min(start + AT_ONCE, len(self._matrix)))
            return self.after(clicked, length)

        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            yield from zip(starts, pool.map(some, starts), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)

    @torch.inference_mode()
    def after(self, clicked: Tensor, length: int) -> Tensor:
        """clicked: (B,) int64. Returns (B, length) int32, in falling score."""
        queries = queries_of(self._predictor.reads_after(clicked), self._scale)
        wide = with_bias(queries, self._unit)
        found = torch.from_numpy(self._codes.search(wide, WANTED_PER_GROUP * length)[1])
        items = self._items[found]
        scores = torch.bmm(self._matrix[items], torch.from_numpy(queries).unsqueeze(2)).squeeze(2)
        best = torch.topk(scores + self._bias[items], length, dim=1)[1]
        return items.gather(1, best).to(torch.int32)
