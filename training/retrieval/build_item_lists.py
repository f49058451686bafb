"""Build the item lists of a trained model.

Up to `MAX_PAIRED_ITEMS` items, every pair of items is scored: a product of two 8-bit vectors for
each pair (docs/serving.md has the minutes). In a larger catalogue, clicks with similar query
vectors share a shortlist, and only pairs of a click and an item of its shortlist are scored: the
work grows with the number of items, not with its square. The best pairs are scored again in
float32.
"""

import copy
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.predictor import Predictor
from recsys.retrieval.candidates import MEASURED_K, IndexSettings, with_bias
from recsys.retrieval.int8 import CANDIDATES_PER_GROUP, Int8Codes
from recsys.retrieval.item_lists import ItemLists
from recsys.retrieval.rerank import query_vectors
from training.retrieval.query_clusters import (
    POINTS_PER_CLUSTER,
    SAMPLED_VECTORS,
    VECTORS_AT_ONCE,
    QueryClusters,
    QuerySpace,
    centroids_of,
    cluster_count,
)

LIST_LENGTH = 64  # items of a list
MAX_COMMON = 2048  # items that are in the most lists and are scored for every query instead
COMMON_SHARE = 0.1  # of a small catalogue
SAMPLED_CLICKS = 4000  # clicks whose lists decide which items are common
LISTS_AT_ONCE = 128  # lists, whose scores stay in the cache
MAX_PAIRED_ITEMS = 1_200_000  # in a larger catalogue, not every pair of items is scored
SHORTLIST = 200_000  # items that are scored for each click of a cluster
PRODUCTS_AT_ONCE = 64_000_000  # of all threads, 256 MB: of clusters and all items

OnProgress = Callable[[float], None]  # takes the share that is done
Block = TypeVar("Block")
Result = TypeVar("Result")


def build_item_lists(
    predictor: Predictor,
    scale: float,
    bias_unit: float,
    on_progress: OnProgress = lambda share: None,
    shortlist: int | None = None,
) -> ItemLists:
    """Build the lists of every item, on all cores.

    Args:
        predictor: the trained model.
        scale: scale of its cosine scores, 0 for inner products.
        bias_unit: about the length of a query vector; see `IndexSettings`.
        on_progress: called with the share of the lists that is done.
        shortlist: items that are scored for each click; None: every item of a catalogue of at most
            `MAX_PAIRED_ITEMS`, `SHORTLIST` of a larger one.

    Returns:
        The index, with one probe.
    """
    all_items = np.arange(len(predictor.catalogue))
    if shortlist is None and len(all_items) > MAX_PAIRED_ITEMS:
        shortlist = SHORTLIST
    common = _common(predictor, NextItems(predictor, all_items, scale, bias_unit))
    next_items = NextItems(predictor, np.setdiff1d(all_items, common), scale, bias_unit)
    length = min(LIST_LENGTH, len(all_items) - len(common))
    lists = torch.empty((len(all_items), length), dtype=torch.int32)
    done = 0
    for clicked, block in (
        next_items.after_each(length)
        if shortlist is None
        else next_items.after_clusters(length, shortlist)
    ):
        lists[clicked] = block
        done += len(block)
        on_progress(done / len(all_items))
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
        self._codes = Int8Codes.of(self._matrix, self._bias, bias_unit, items)

    def vectors_of(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return item vectors with their bias as an index holds them: (C, width) float32."""
        bias = self._bias.numpy()[items] / self._bias_unit
        return with_bias(self._matrix.numpy()[items], bias)

    def after_each(self, length: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield blocks of clicked items, and the lists after each of them, on all cores."""
        items = len(self._matrix)
        blocks = (
            torch.arange(start, min(start + LISTS_AT_ONCE, items))
            for start in range(0, items, LISTS_AT_ONCE)
        )
        return _on_all_cores(lambda clicked: (clicked, self.after(clicked, length)), blocks)

    def after_clusters(self, length: int, shortlist: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield clicked items, and the lists after each of them, from shortlists, on all cores.

        Args:
            length: length of a list.
            shortlist: items that are scored for the clicks of a cluster: those that score highest
                for its mean query vector.
        """
        count = max(length, min(shortlist, len(self._items)))
        at_once = PRODUCTS_AT_ONCE // (os.cpu_count() or 1) // len(self._items)

        def lists_of(block: QueryClusters) -> tuple[Tensor, Tensor]:
            queries = self._queries_after(torch.from_numpy(block.items))
            starts, sizes = block.offsets[:-1], np.diff(block.offsets)
            means = np.add.reduceat(queries, starts)
            means /= sizes[:, None]
            wide = with_bias(means, self._bias_unit)
            shortlists = self._codes.best(wide, count)
            parts = [
                self._among(items)._best(cluster, length)
                for items, cluster in zip(shortlists, np.split(queries, starts[1:]), strict=True)
            ]
            return torch.from_numpy(block.items), torch.cat(parts)

        return _on_all_cores(lists_of, self._clusters().blocks(max(at_once, 1)))

    def _clusters(self) -> QueryClusters:
        """Return the clicks on all items, those with similar query vectors together."""
        items = len(self._matrix)
        random = np.random.default_rng(1)

        def sample(count: int) -> NDArray[np.int64]:
            return np.sort(random.permutation(items)[:count])

        space = QuerySpace(self.vectors_of(sample(SAMPLED_VECTORS)))

        def points(clicked: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
            for start in range(0, len(clicked), VECTORS_AT_ONCE):
                block = torch.from_numpy(clicked[start : start + VECTORS_AT_ONCE])
                yield space.weighted(with_bias(self._queries_after(block), self._bias_unit))

        clusters = cluster_count(items)
        some = np.concatenate(list(points(sample(clusters * POINTS_PER_CLUSTER))))
        centroids = centroids_of(some, clusters)
        labels = [centroids.search(block, 1)[1] for block in points(np.arange(items))]
        return QueryClusters.of(np.concatenate(labels)[:, 0])

    def _among(self, places: NDArray[np.int64]) -> "NextItems":
        """Return the same for some of the items, given by their places."""
        some = copy.copy(self)
        some._items, some._codes = self._items[torch.from_numpy(places)], self._codes.only(places)
        return some

    def after(self, clicked: Tensor, length: int) -> Tensor:
        """Return the items that score highest after one click.

        Args:
            clicked: (B,) int64 item indices.
            length: length of a list.

        Returns:
            (B, length) int32 item indices, in falling score.
        """
        return self._best(self._queries_after(clicked), length)

    def _queries_after(self, clicked: Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            return query_vectors(self._predictor.hidden_after(clicked), self._scale)

    @torch.inference_mode()
    def _best(self, queries: NDArray[np.float32], length: int) -> Tensor:
        """Return the items that score highest for queries, (B, length) int32."""
        parts = [queries[at : at + LISTS_AT_ONCE] for at in range(0, len(queries), LISTS_AT_ONCE)]
        return torch.cat([self._best_together(part, length) for part in parts])

    def _best_together(self, queries: NDArray[np.float32], length: int) -> Tensor:
        wide = with_bias(queries, self._bias_unit)
        candidates = torch.from_numpy(self._codes.search(wide, CANDIDATES_PER_GROUP * length))
        items = self._items[candidates]
        scores = torch.bmm(self._matrix[items], torch.from_numpy(queries).unsqueeze(2)).squeeze(2)
        best = torch.topk(scores + self._bias[items], length, dim=1)[1]
        return items.gather(1, best).to(torch.int32)


def _on_all_cores(work: Callable[[Block], Result], blocks: Iterable[Block]) -> Iterator[Result]:
    """Yield the results of all blocks in order; a caller that stops leaves the rest undone."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from pool.map(work, blocks)
    finally:
        pool.shutdown(cancel_futures=True)
