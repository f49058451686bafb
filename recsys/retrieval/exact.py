"""Exact top-k retrieval, and the interface that every retrieval has.

    ExactScan   scores every item in float32
    Reranked    scores the candidates of an index in float32 (`recsys/retrieval/rerank.py`)

Scores and order always come from the float32 item vectors, so the two differ only in the items that
an index overlooks. The training measures that and chooses the retrieval of a bundle
(`training/retrieval/recall_check.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.allowed_items import AllowedItems
from recsys.model.ranking import NEVER, rows_at_once
from recsys.model.repeats import RepeatTerm, temperature_of
from recsys.neighbours.blend import Blend
from recsys.ragged import ScoredRaggedArray, rows_of
from recsys.retrieval.candidates import KINDS, REMOVED_KINDS, IndexSettings, Windows
from recsys.retrieval.new_items import PlacedItems, trained_only
from recsys.retrieval.rules import RankingRules

SCORES_AT_ONCE = 8_000_000  # of an exact scan, 32 MB; more above 500,000 items, see `rows_at_once`


@dataclass(frozen=True, slots=True)
class RankingQuery:
    """Length of a list, the items it may hold, and the rules of their order."""

    k: int = 20
    excluded: Sequence[int] = ()  # item indices
    allowed: AllowedItems | None = None  # None for every item
    rules: RankingRules | None = None  # with rules, every item is scored
    backfill: bool = False  # an empty list becomes that of popular items, allowed or not


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """Retrieval method of a bundle and its measured recall, as the manifest stores them.

    Raises:
        ValueError: the kind is unknown, or differs from the kind of the index.
    """

    kind: str = "exact"
    index: IndexSettings | None = None  # None where kind is exact
    recall: Mapping[str, float] = field(default_factory=dict)  # excluded part → recall@20
    states: int = 0  # hidden states of validation sessions that recall was measured on
    refused: Mapping[str, float] = field(default_factory=dict)  # kind tried before → lowest recall

    def __post_init__(self) -> None:
        if self.kind not in ("exact", *KINDS, *REMOVED_KINDS):
            raise ValueError(f"retrieval is one of exact, {', '.join(KINDS)}, got {self.kind!r}.")
        if self.kind != ("exact" if self.index is None else self.index.kind):
            raise ValueError(f"retrieval {self.kind!r} and its index {self.index} disagree.")


EXACT_RETRIEVAL = RetrievalSettings()


def describe_retrieval(settings: RetrievalSettings) -> str:
    """Return one or more sentences on how a bundle finds items."""
    tried = "".join(
        f" {kind} found {share:.4f} of them." for kind, share in settings.refused.items()
    )
    if settings.kind in REMOVED_KINDS:
        return (
            f"Every item is scored exactly: the index kind {settings.kind} was removed. Export the "
            "bundle anew to get an index."
        )
    if settings.index is None:
        return f"Every item is scored exactly.{tried}"
    count = settings.index.probes
    probes = f" with {count} probe{'s' if count > 1 else ''}" if count else ""
    return (
        f"Items are found by {settings.kind}{probes}: at least {min(settings.recall.values()):.4f} "
        f"of the exact lists, over {settings.states:,} validation states.{tried}"
    )


@dataclass(frozen=True, slots=True)
class TopK:
    """Item indices in falling score, after pinned ones; fewer than k where few are allowed."""

    items: list[int]
    scores: list[float]


DEFAULT_QUERY = RankingQuery()


class Retrieval(Protocol):
    """Top-k retrieval for a batch of hidden states."""

    def top_k(self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]) -> list[TopK]:
        """Return a list for each hidden state.

        Args:
            hidden: (B, H) float32, the top layer's outputs.
            clicks: B windows of known item indices, oldest first, each with at least one click;
                the hidden states were computed from them.
            queries: B queries.

        Returns:
            B lists.
        """
        ...

    def quick_top_k(
        self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]
    ) -> list[TopK | None]:
        """Return the lists of `top_k`, or None for each list that needs a scan of all items."""
        ...

    def over(self, exact: "ExactScan") -> "Retrieval":
        """Return the same retrieval with the scores of another scan.

        Args:
            exact: scan of the same items, with other biases or with further items.
        """
        ...


class ItemScorer(Protocol):
    """Methods of a model that make lists; shapes as in `recsys.model.gru4rec.SessionRNN`."""

    def scores(self, matrix: Tensor, bias: Tensor, hidden: Tensor) -> Tensor: ...
    def top_k(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]: ...


class ExactScan:
    """Retrieval that scores every item in float32."""

    def __init__(
        self,
        model: ItemScorer,
        matrix: Tensor,
        bias: Tensor,
        repeats: RepeatTerm | None = None,
        blend: Blend | None = None,
        raised: NDArray[np.int64] | None = None,
        new: PlacedItems | None = None,
    ) -> None:
        """Hold the item vectors.

        Args:
            model: computes scores from them.
            matrix: (N, H) float32.
            bias: (N,) float32.
            repeats: bonus for items of the session, None for no bonus.
            blend: session neighbours to blend in, None for the model only.
            raised: indices of the items whose bias an index of the other biases does not have;
                theirs is higher by no less than that of any other item. None for no item.
            new: further items, whose indices follow; None for no item.
        """
        self.matrix, self.bias, self.repeats, self.blend = matrix, bias, repeats, blend
        self.raised = np.zeros(0, dtype=np.int64) if raised is None else raised
        self.new = new
        self._model = model

    def top_k(self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]) -> list[TopK]:
        """Return the exact lists; see `Retrieval.top_k`."""
        rows = rows_at_once(len(self.matrix), SCORES_AT_ONCE)
        parts = [slice(at, at + rows) for at in range(0, len(queries), rows)]
        return [
            top_k
            for part in parts
            for top_k in self._top_k(hidden[part], clicks[part], queries[part])
        ]

    def _top_k(
        self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]
    ) -> list[TopK]:
        return top_k_lists(self._model, self.scores(hidden, clicks), queries)

    def scores(
        self, hidden: Tensor, clicks: Windows, more: ScoredRaggedArray | None = None
    ) -> Tensor:
        """Return the scores of all items, with neighbours and bonuses.

        Args:
            hidden: (B, H) float32, the top layer's outputs.
            clicks: B windows of known item indices, oldest first.
            more: B rows of what is added to the biases of some items.

        Returns:
            (B, N + new) float32.
        """
        scores = self._model.scores(self.matrix, self.bias, hidden)
        if self.new is not None:
            of_new = self._model.scores(self.new.matrix, self.new.bias, hidden)
            scores = torch.cat([scores, of_new], dim=1)
        if more is not None:
            places = torch.from_numpy(more.row_of_entry), torch.from_numpy(more.items)
            scores[places] += torch.from_numpy(more.scores.astype(np.float32))
        if self.blend is not None:
            known = trained_only(clicks, self.new)
            scores = self.blend.mix(scores / temperature_of(self.repeats), rows_of(known))
        if self.repeats is not None:
            self.repeats.add_to(scores, clicks)
        return scores

    def quick_top_k(
        self, hidden: Tensor, clicks: Windows, queries: Sequence[RankingQuery]
    ) -> list[TopK | None]:
        """Return the exact lists: an exact scan has no quicker way."""
        return list(self.top_k(hidden, clicks, queries))

    def over(self, exact: "ExactScan") -> "ExactScan":
        """Return the other scan."""
        return exact


def top_k_lists(model: ItemScorer, scores: Tensor, queries: Sequence[RankingQuery]) -> list[TopK]:
    """Return the best allowed items of each row of scores.

    Args:
        model: finds the largest scores.
        scores: (B, N) float32; the call overwrites the scores of items that may not be shown.
        queries: B queries.

    Returns:
        B lists, equal scores in the order of the item index.
    """
    if not queries:
        return []
    for row, query in enumerate(queries):
        if query.allowed is not None:
            scores[row, torch.from_numpy(~query.allowed.mask)] = NEVER
        if query.excluded:
            scores[row, torch.tensor(query.excluded)] = NEVER
    best, items = model.top_k(scores, max(query.k for query in queries))
    return [
        shown_items(items[row].tolist(), best[row].tolist(), query.k)
        if query.rules is None
        else _ruled(query.rules, scores[row], query.k)
        for row, query in enumerate(queries)
    ]


def _ruled(rules: RankingRules, scores: Tensor, k: int) -> TopK:
    listed = rules.best(scores, k)
    assert listed is not None, "the scores of all items are there"
    return TopK(*listed)


def shown_items(items: list[int], scores: list[float], k: int) -> TopK:
    """Return the first `k` items, without those that may not be shown.

    Args:
        items: item indices in falling score.
        scores: their scores, `NEVER` where an item may not be shown.
        k: length of the list.
    """
    shown = min(k, len(scores)) - scores[:k].count(NEVER)
    return TopK(items[:shown], scores[:shown])
