"""Hidden states in, the best allowed items out: one verb, and several ways to find them.

    exact                        every item in float32
    fp16, int8, pq4, ivf, lists  candidates of an index (`recsys/retrieval/candidates.py`), scored
                                 again in float32

Whatever finds the candidates, scores and order come from float32 item vectors, so the ways differ
in nothing but what they may overlook. Which way a bundle takes is decided where it is written, by
measuring that (`training/retrieval/recall_check.py`).
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.gru4rec import SHORTEST as NO_DIRECTION
from recsys.model.ranking import NEVER
from recsys.retrieval.candidates import KINDS, SHORTEST, CandidateIndex, IndexSettings, Windows

FEW = 20_000  # allowed items that are scored one by one
SCORED_AT_ONCE = 8_000_000  # scores of an exact scan, 32 MB; each part of a batch reads all items
AT_ONCE = 32_768  # vectors that are copied together to be scored, 16 MB of 128 numbers


@dataclass(frozen=True, slots=True)
class RankingQuery:
    """How long a list may be and what it may hold; allowed: (N,) bool, None for everything."""

    k: int = 20
    excluded: Sequence[int] = ()
    allowed: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """What a manifest says of how items are found, and why so."""

    kind: str = "exact"
    index: IndexSettings | None = None  # None where kind is exact
    recall: Mapping[str, float] = field(default_factory=dict)  # what is left out → recall@20
    states: int = 0  # validation states it was measured on
    refused: Mapping[str, float] = field(default_factory=dict)  # kind → lowest recall, tried before

    def __post_init__(self) -> None:
        if self.kind not in ("exact", *KINDS):
            raise ValueError(f"retrieval is one of exact, {', '.join(KINDS)}, got {self.kind!r}.")
        if self.kind != ("exact" if self.index is None else self.index.kind):
            raise ValueError(f"retrieval {self.kind!r} and its index {self.index} disagree.")


EXACTLY = RetrievalSettings()


def retrieval_said(settings: RetrievalSettings) -> str:
    """How items are found, for the console."""
    tried = "".join(
        f" {kind} found {share:.4f} of them." for kind, share in settings.refused.items()
    )
    if settings.index is None:
        return f"Every item is scored exactly.{tried}"
    count = settings.index.probes
    probes = f" with {count} probe{'s' if count > 1 else ''}" if count else ""
    return (
        f"Items are found by {settings.kind}{probes}: {min(settings.recall.values()):.4f} of the "
        f"exact lists at the least, over {settings.states:,} validation states.{tried}"
    )


@dataclass(frozen=True, slots=True)
class TopK:
    """Item indices in falling score; shorter than asked where few items are allowed."""

    items: list[int]
    scores: list[float]


LIST = RankingQuery()


class Retrieval(Protocol):
    """What a predictor asks."""

    def best(self, read: Tensor, clicks: Windows, wishes: Sequence[RankingQuery]) -> list[TopK]:
        """A list for each row of `read`, (B, H) float32, the top layer's output.

        clicks: the known items that each row was read from, oldest first.
        """
        ...

    def quick_best(
        self, read: Tensor, clicks: Windows, wishes: Sequence[RankingQuery]
    ) -> list[TopK | None]:
        """The same, but None where every item would have to be scored to be certain."""
        ...


class ItemScorer(Protocol):
    """The verbs of a model that lists are made with; shapes as in `recsys.model.gru4rec`."""

    def scores(self, matrix: Tensor, bias: Tensor, read: Tensor) -> Tensor: ...
    def top_k(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]: ...


class ExactScan:
    """Every item in float32: nothing is overlooked."""

    def __init__(self, model: ItemScorer, matrix: Tensor, bias: Tensor) -> None:
        self.matrix, self.bias = matrix, bias
        self._model = model

    def best(self, read: Tensor, clicks: Windows, wishes: Sequence[RankingQuery]) -> list[TopK]:
        rows = max(SCORED_AT_ONCE // len(self.matrix), 1)
        parts = [slice(at, at + rows) for at in range(0, len(wishes), rows)]
        return [
            best
            for part in parts
            for best in best_of(
                self._model, self._model.scores(self.matrix, self.bias, read[part]), wishes[part]
            )
        ]

    def quick_best(
        self, read: Tensor, clicks: Windows, wishes: Sequence[RankingQuery]
    ) -> list[TopK | None]:
        """The same: there is no quicker way."""
        return list(self.best(read, clicks, wishes))


class Reranked:
    """Candidates of an index that may overlook some, scored again in float32."""

    def __init__(
        self, index: CandidateIndex, exact: ExactScan, scale: float, few: int = FEW
    ) -> None:
        """exact: of the same items; scale: of cosine scores, 0 for inner products.

        few: so many allowed items are scored one by one rather than looked up.
        """
        self._index, self._exact, self._scale, self._few = index, exact, scale, few
        self._matrix, self._bias = exact.matrix.numpy(), exact.bias.numpy()

    def best(self, read: Tensor, clicks: Windows, wishes: Sequence[RankingQuery]) -> list[TopK]:
        found = self.quick_best(read, clicks, wishes)
        lost = [at for at, best in enumerate(found) if best is None]
        exactly: list[TopK] = []
        if lost:  # what is wanted may lie where the index does not look
            read, clicks = read[lost], [clicks[at] for at in lost]
            exactly = self._exact.best(read, clicks, [wishes[at] for at in lost])
        rest = iter(exactly)
        return [next(rest) if best is None else best for best in found]

    def quick_best(
        self, read: Tensor, clicks: Windows, wishes: Sequence[RankingQuery]
    ) -> list[TopK | None]:
        queries = queries_of(read, self._scale)
        found: dict[int, TopK | None] = {}
        for wanted, rows in _alike(wishes).items():
            lists = self._unfiltered(queries, clicks, wishes, rows, wanted)
            found.update(zip(rows, lists, strict=True))
        for at, wish in enumerate(wishes):
            if wish.allowed is not None:
                found[at] = self._filtered(queries[at : at + 1], clicks[at], wish, wish.allowed)
        return [found[at] for at in range(len(wishes))]

    def _unfiltered(
        self,
        queries: NDArray[np.float32],
        clicks: Windows,
        wishes: Sequence[RankingQuery],
        rows: Sequence[int],
        wanted: int,
    ) -> list[TopK | None]:
        """None where the index does not reach."""
        own = queries if len(rows) == len(queries) else queries[rows]
        items = self._index.candidates(own, [clicks[row] for row in rows], wanted)
        return self._scored(own, items, [wishes[row] for row in rows], self._index.reach)

    def _filtered(
        self,
        query: NDArray[np.float32],
        clicks: Sequence[int],
        wish: RankingQuery,
        allowed: NDArray[np.bool_],
    ) -> TopK | None:
        """None where the index overlooks what is allowed; query: (1, H)."""
        if np.count_nonzero(allowed) <= self._few:
            items = np.flatnonzero(allowed)[None]
        elif self._index.settings.filters:
            items = self._index.candidates(query, [clicks], _wanted(wish), allowed)
        else:
            return None
        return self._scored(query, items, [wish])[0]

    def _scored(
        self,
        queries: NDArray[np.float32],
        items: NDArray[np.int64],
        wishes: Sequence[RankingQuery],
        reach: int = sys.maxsize,
    ) -> list[TopK | None]:
        """The best of these items; None where a list ends beyond the reach of who found them.

        queries: (R, H); items: (R, C), -1 where there is none. A row's scores are the same in any
        batch, so that it does not matter how many are scored together.
        """
        rows = max(AT_ONCE // max(items.shape[1], 1), 1)
        parts = [slice(at, at + rows) for at in range(0, len(items), rows)]
        return [
            best
            for part in parts
            for best in self._scored_together(queries[part], items[part], wishes[part], reach)
        ]

    def _scored_together(
        self,
        queries: NDArray[np.float32],
        items: NDArray[np.int64],
        wishes: Sequence[RankingQuery],
        reach: int,
    ) -> list[TopK | None]:
        """What was found and is excluded counts: it would have stood in the list."""
        items = np.sort(items, axis=1)  # equal scores stand in the order of their index
        shown = items >= 0
        shown[:, 1:] &= items[:, 1:] != items[:, :-1]
        beyond = [wish.k > reach for wish in wishes]
        for row, wish in enumerate(wishes):
            if wish.excluded:
                left_out = shown[row] & np.isin(items[row], wish.excluded)
                shown[row] &= ~left_out
                beyond[row] = wish.k + int(np.count_nonzero(left_out)) > reach
        if all(beyond):
            return [None] * len(wishes)
        taken = self._matrix.take(items, axis=0, mode="clip")  # (R, C, H)
        scores = np.einsum("rch,rh->rc", taken, queries)  # no threads, which would only spin
        scores += self._bias.take(items, mode="clip")
        scores[~shown | np.isnan(scores)] = NEVER
        order = np.argsort(-scores, axis=1, kind="stable")[:, : max(wish.k for wish in wishes)]
        rows = np.arange(len(items))[:, None]
        best, falling = items[rows, order].tolist(), scores[rows, order].tolist()
        return [
            None if beyond[row] else _shown(best[row], falling[row], wish.k)
            for row, wish in enumerate(wishes)
        ]


def _alike(wishes: Sequence[RankingQuery]) -> dict[int, list[int]]:
    """Items to find → the rows without a filter that want so many."""
    rows: dict[int, list[int]] = {}
    for at, wish in enumerate(wishes):
        if wish.allowed is None:
            rows.setdefault(_wanted(wish), []).append(at)
    return rows


def _wanted(wish: RankingQuery) -> int:
    """Items to find, of which what is excluded still goes; in steps, so that rows share them.

    How many are asked for can change which ones are found: it depends on nobody else's wish.
    """
    return math.ceil(max(wish.k + len(wish.excluded), 1) / SHORTEST) * SHORTEST


def queries_of(read: Tensor, scale: float) -> NDArray[np.float32]:
    """(B, H): what item vectors are multiplied with, the top layer's output or its direction.

    As `recsys.model.gru4rec.unit` says, in a tenth of the time that torch takes for one row.
    """
    queries: NDArray[np.float32] = read.numpy()
    if scale <= 0:
        return queries
    lengths = np.sqrt(np.einsum("ij,ij->i", queries, queries))
    factors = np.where(lengths > NO_DIRECTION, scale / np.maximum(lengths, NO_DIRECTION), 0)
    return queries * factors.astype(np.float32)[:, None]


def best_of(model: ItemScorer, scores: Tensor, wishes: Sequence[RankingQuery]) -> list[TopK]:
    """The lists of scored items; scores: (B, N) float32, changed where a wish leaves items out."""
    if not wishes:
        return []
    for row, wish in enumerate(wishes):
        if wish.allowed is not None:
            scores[row, torch.from_numpy(~wish.allowed)] = NEVER
        if wish.excluded:
            scores[row, torch.tensor(wish.excluded)] = NEVER
    best, items = model.top_k(scores, max(wish.k for wish in wishes))
    return [
        _shown(items[row].tolist(), best[row].tolist(), wish.k) for row, wish in enumerate(wishes)
    ]


def _shown(items: list[int], scores: list[float], k: int) -> TopK:
    shown = min(k, len(scores)) - scores[:k].count(NEVER)
    return TopK(items[:shown], scores[:shown])
