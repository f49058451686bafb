"""Build the item lists of a trained model.

Up to `MAX_PAIRED_ITEMS` items, every pair of items is scored: a product of two 8-bit vectors for
each pair (docs/serving.md has the minutes). In a larger catalogue, clicks with similar query
vectors share a shortlist, and only pairs of a click and an item of its shortlist are scored: the
work grows with the number of items, not with its square. The best pairs are scored again in
float32.
"""

import copy
import math
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
from training.parallel.processes import ALONE, Processes
from training.retrieval.query_clusters import (
    POINTS_PER_CLUSTER,
    SAMPLED_VECTORS,
    VECTORS_AT_ONCE,
    QueryClusters,
    QuerySpace,
    centroids_of,
    cluster_count,
    nearest,
)

LIST_LENGTH = 64  # items of a list
MAX_COMMON = 2048  # items that are in the most lists and are scored for every query instead
COMMON_SHARE = 0.1  # of a small catalogue
SAMPLED_CLICKS = 4000  # clicks whose lists decide which items are common
LISTS_AT_ONCE = 128  # lists, whose scores stay in the cache
MAX_PAIRED_ITEMS = 1_200_000  # in a larger catalogue, not every pair of items is scored
SHORTLIST = 200_000  # items that are scored for each click of a cluster
PRODUCTS_AT_ONCE = 64_000_000  # of all threads, 256 MB: of clusters and all items
LISTS_OF_A_MESSAGE = 1 << 18  # 67 MB, among processes

OnProgress = Callable[[float], None]  # takes the share that is done
Block = TypeVar("Block")
Result = TypeVar("Result")


def build_item_lists(
    predictor: Predictor,
    scale: float,
    bias_unit: float,
    on_progress: OnProgress = lambda share: None,
    shortlist: int | None = None,
    processes: Processes = ALONE,
) -> ItemLists:
    """Build the lists of every item, on all cores of all processes.

    Args:
        predictor: the trained model.
        scale: scale of its cosine scores, 0 for inner products.
        bias_unit: about the length of a query vector; see `IndexSettings`.
        on_progress: called with the share of the lists of this process that is done.
        shortlist: items that are scored for each click; None: every item of a catalogue of at most
            `MAX_PAIRED_ITEMS`, `SHORTLIST` of a larger one.
        processes: they share the lists, and each returns all of them.

    Returns:
        The index, with one probe.
    """
    all_items = np.arange(len(predictor.catalogue))
    if shortlist is None and len(all_items) > MAX_PAIRED_ITEMS:
        shortlist = SHORTLIST
    common = _common(predictor, NextItems(predictor, all_items, scale, bias_unit), processes)
    next_items = NextItems(predictor, np.setdiff1d(all_items, common), scale, bias_unit)
    length = min(LIST_LENGTH, len(all_items) - len(common))
    lists = torch.zeros((len(all_items), length), dtype=torch.int32)
    done = 0
    for clicked, block in (
        next_items.after_each(length, processes)
        if shortlist is None
        else next_items.after_clusters(length, shortlist, processes)
    ):
        lists[clicked] = block
        done += len(block) * processes.size
        on_progress(min(done / len(all_items), 1.0))
    if processes.size > 1:
        for start in range(0, len(lists), LISTS_OF_A_MESSAGE):
            processes.sum([lists[start : start + LISTS_OF_A_MESSAGE]])
    settings = IndexSettings("lists", bias_unit, probes=1)
    vectors = torch.from_numpy(next_items.vectors_of(common))
    return ItemLists(lists, torch.from_numpy(common.astype(np.int32)), vectors, settings)


def _common(
    predictor: Predictor, next_items: "NextItems", processes: Processes
) -> NDArray[np.int64]:
    """Return the items that are in most lists of clicks sampled by popularity."""
    counts = np.maximum(predictor.catalogue.counts, 1)
    random = np.random.default_rng(1)
    clicked = random.choice(len(counts), SAMPLED_CLICKS, p=counts / counts.sum())
    blocks = np.array_split(clicked, math.ceil(SAMPLED_CLICKS / LISTS_AT_ONCE))
    length = min(MEASURED_K, len(counts))
    times = torch.zeros(len(counts), dtype=torch.int64)
    for block in processes.part_of(blocks):
        listed = next_items.after(torch.from_numpy(block), length)
        times += torch.bincount(listed.flatten(), minlength=len(counts))
    processes.sum([times])
    most = min(MAX_COMMON, int(COMMON_SHARE * len(counts)))
    return np.sort(np.argsort(-times.numpy(), kind="stable")[:most])


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

    def after_each(self, length: int, processes: Processes) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the clicked items of this process, and the lists after each, block by block."""
        items = len(self._matrix)
        blocks = (
            torch.arange(start, min(start + LISTS_AT_ONCE, items))
            for start in range(0, items, LISTS_AT_ONCE)
        )
        return _on_all_cores(
            lambda clicked: (clicked, self.after(clicked, length)), blocks, processes
        )

    def after_clusters(
        self, length: int, shortlist: int, processes: Processes
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the clicked items of this process, and the lists after each, from shortlists.

        Args:
            length: length of a list.
            shortlist: items that are scored for the clicks of a cluster: those that score highest
                for its mean query vector.
            processes: they share the clusters.
        """
        count = max(length, min(shortlist, len(self._items)))
        at_once = PRODUCTS_AT_ONCE // processes.threads // len(self._items)

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

        return _on_all_cores(lists_of, self._clusters(processes).blocks(max(at_once, 1)), processes)

    def _clusters(self, processes: Processes) -> QueryClusters:
        """Return the clicks on all items, those with similar query vectors together."""
        items, width = len(self._matrix), self.vectors_of(np.arange(1)).shape[1]
        weights = torch.zeros((width, width))
        centroids = torch.zeros((cluster_count(items), width))
        if processes.is_first:
            random = np.random.default_rng(1)
            vectors = self.vectors_of(np.sort(random.permutation(items)[:SAMPLED_VECTORS]))
            space = QuerySpace.of(vectors)
            sample = np.sort(random.permutation(items)[: len(centroids) * POINTS_PER_CLUSTER])
            some = np.concatenate([self._points_after(b, space) for b in _blocks(sample)])
            weights = torch.from_numpy(space.weights).contiguous()
            centroids = torch.from_numpy(centroids_of(some, len(centroids), processes.threads))
        processes.broadcast([weights, centroids])
        space = QuerySpace(weights.numpy())
        labels = torch.zeros(items, dtype=torch.int64)
        for block in processes.part_of(_blocks(np.arange(items))):
            found = nearest(self._points_after(block, space), centroids.numpy(), processes.threads)
            labels[block] = torch.from_numpy(found)
        processes.sum([labels])
        return QueryClusters.of(labels.numpy())

    def _points_after(self, clicked: NDArray[np.int64], space: QuerySpace) -> NDArray[np.float32]:
        queries = self._queries_after(torch.from_numpy(clicked))
        return space.points(with_bias(queries, self._bias_unit))

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


def _blocks(clicked: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the clicked items, a part at a time."""
    for start in range(0, len(clicked), VECTORS_AT_ONCE):
        yield clicked[start : start + VECTORS_AT_ONCE]


def _on_all_cores(
    work: Callable[[Block], Result], blocks: Iterable[Block], processes: Processes
) -> Iterator[Result]:
    """Yield the results of this process's blocks; a caller that stops leaves the rest undone."""
    pool = ThreadPoolExecutor(processes.threads)
    try:
        yield from pool.map(work, processes.part_of(blocks))
    finally:
        pool.shutdown(cancel_futures=True)
