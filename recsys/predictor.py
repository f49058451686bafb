"""Predictor of a trained model: synchronous, in batches, shared by evaluation and service.

Takes clicks and returns lists of item indices. A click is a code of item and event type
(`recsys/model/event_types.py`), an item index where the model has no types. The predictor holds the
window and the popular items; it does not know Redis, HTTP or files. Shape letters are listed in
`recsys/model/gru4rec.py`.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.catalogue.catalogue import Catalogue
from recsys.content.encoder import ContentEncoder
from recsys.model.event_types import NO_EVENT_TYPES, EventTypes
from recsys.model.ranking import NEVER
from recsys.model.recent_popularity import RecentPopularity
from recsys.model.repeats import RepeatTerm
from recsys.neighbours.blend import Blend
from recsys.popular_items import PopularItems
from recsys.ragged import RaggedArray, ScoredRaggedArray, windows_along
from recsys.retrieval.candidates import Windows
from recsys.retrieval.exact import (
    DEFAULT_QUERY,
    ExactScan,
    RankingQuery,
    Retrieval,
    TopK,
    top_k_lists,
)
from recsys.retrieval.new_items import PlacedItems

Source = Literal["model", "popular"]
STATE_ID_BYTES = 8  # 16 digits, as a model id has


class SessionModel(Protocol):
    """Methods of a model, eager or scripted; shapes as in `recsys.model.gru4rec.SessionRNN`."""

    def step(self, inputs: Tensor, clicked: Tensor, state: Tensor) -> Tensor: ...
    def replay(self, inputs: Tensor, clicks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]: ...
    def scores(self, matrix: Tensor, bias: Tensor, hidden: Tensor) -> Tensor: ...
    def top_k(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, slots=True)
class SessionState:
    """Recurrent state of a session, and the known items clicked since it was computed."""

    clicks: Sequence[int]  # codes, oldest first
    state: Tensor | None = None  # (L, state_width) float32; None: the clicks are the whole window


@dataclass(frozen=True, slots=True)
class Ranking:
    """Item indices in falling score, after pinned ones; fewer than k where few are allowed."""

    items: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    source: Source = "model"


class Predictor:
    """A model with its item vectors and its catalogue."""

    def __init__(
        self,
        model: SessionModel,
        matrix: Tensor,
        bias: Tensor,
        catalogue: Catalogue,
        *,
        layers: int,
        state_width: int,
        window: int,
        inputs: Tensor | None = None,
        model_id: str = "unsaved",
        repeats: RepeatTerm | None = None,
        blend: Blend | None = None,
        recent: RecentPopularity | None = None,
        event_types: EventTypes = NO_EVENT_TYPES,
        content: ContentEncoder | None = None,
    ) -> None:
        """Join a model and its tables.

        Args:
            model: the model, eager or scripted.
            matrix: (N, H) float32, item vectors.
            bias: (N,) float32.
            catalogue: N items.
            layers: L.
            state_width: numbers of one layer's state, H or 2H.
            window: clicks that count, at most; older ones are dropped.
            inputs: (N, input_width) float32, the input table; None where it is the item matrix.
            model_id: identifies the weights and settings.
            repeats: bonus for items of the session, None for no bonus.
            blend: session neighbours to blend in, None for the model only.
            recent: recent popularity, None where it does not count.
            event_types: types of clicks that the model knows.
            content: places new items by their content; None where the model has none.
        """
        self.catalogue = catalogue
        self.layers = layers
        self.state_width = state_width
        self.hidden = int(matrix.size(1))
        self.window = window
        self.model_id = model_id
        self.repeats = repeats
        self.blend = blend
        self.event_types = event_types
        self.content = content
        self._model = model
        self._matrix = matrix
        self._inputs = matrix if inputs is None else inputs
        self._own_bias = bias
        self._cosines = _Cosines(matrix)  # shared by predictors with an overlay
        self._placed: PlacedItems | None = None  # of an overlay
        self._count_recent(recent)
        self._retrieval: Retrieval = self.exact_retrieval  # scores every item

    def _count_recent(self, recent: RecentPopularity | None) -> None:
        """Count these clicks, of all items of the catalogue."""
        self.recent, self._bias, self._new = recent, self._own_bias, self._placed
        self._popular_items = PopularItems.of(self.catalogue, recent)
        if recent is None:
            return
        known = len(self._own_bias)
        self._bias = self._own_bias + recent.term[:known]
        if self._placed is not None:
            self._new = replace(self._placed, bias=self._placed.bias + recent.term[known:])

    def known(
        self, item_ids: Sequence[str], event_types: Sequence[str | None] | None = None
    ) -> list[int]:
        """Return the codes of the clicks on known items.

        Args:
            item_ids: clicked items, oldest first.
            event_types: type of each click, None for one without; None where no click has one.
        """
        types = self.event_types
        if types.count == 1:
            return self.catalogue.known(item_ids)
        texts = [None] * len(item_ids) if event_types is None else event_types
        return [
            item * types.count + types.numbers.get(text, 0)
            for item_id, text in zip(item_ids, texts, strict=True)
            if (item := self.catalogue.find(item_id)) is not None
        ]

    @torch.inference_mode()
    def advance(self, sessions: Sequence[SessionState]) -> Tensor:
        """Return the recurrent state of each session after its clicks.

        Args:
            sessions: B sessions.

        Returns:
            (L, B, state_width) float32; zeros for a session without state and clicks.
        """
        if all(session.state is not None for session in sessions) and sessions:
            state = torch.stack([s.state for s in sessions if s.state is not None], dim=1)
        else:
            state = torch.zeros(self.layers, len(sessions), self.state_width)
            for at, session in enumerate(sessions):
                if session.state is not None:
                    state[:, at] = session.state
        # one click from zero is a step like any other, and goes along with the others
        replayed = [at for at, s in enumerate(sessions) if s.state is None and len(s.clicks) > 1]
        if replayed:
            state[:, replayed] = self._replay([sessions[at].clicks for at in replayed])[1]
        stepping = [
            at
            for at, s in enumerate(sessions)
            if s.clicks and (s.state is not None or len(s.clicks) == 1)
        ]
        done = 0
        while stepping:
            clicked = torch.tensor([sessions[at].clicks[done] for at in stepping])
            inputs, clicked = self._input_rows(clicked)
            if len(stepping) == len(sessions):
                state = self._model.step(inputs, clicked, state)
            else:
                state[:, stepping] = self._model.step(inputs, clicked, state[:, stepping])
            done += 1
            stepping = [at for at in stepping if len(sessions[at].clicks) > done]
        return state

    @torch.inference_mode()
    def rank(
        self, state: Tensor, windows: Windows, queries: Sequence[RankingQuery]
    ) -> list[Ranking]:
        """Return a list for each session.

        Args:
            state: (L, B, state_width) float32, as `advance` returns it.
            windows: B windows of codes of known items, oldest first; neighbours and item lists are
                found by their items. An empty window gets the most popular items.
            queries: B queries.

        Returns:
            B lists.
        """
        lists = self._rank(self._retrieval.top_k, state, windows, queries)
        return [ranking for ranking in lists if ranking is not None]

    @torch.inference_mode()
    def rank_quickly(
        self, state: Tensor, windows: Windows, queries: Sequence[RankingQuery]
    ) -> list[Ranking | None]:
        """Return the lists of `rank`, or None for each list that needs a scan of all items."""
        return self._rank(self._retrieval.quick_top_k, state, windows, queries)

    def _rank(
        self,
        find: Callable[[Tensor, Windows, Sequence[RankingQuery]], Sequence[TopK | None]],
        state: Tensor,
        windows: Windows,
        queries: Sequence[RankingQuery],
    ) -> list[Ranking | None]:
        queries = [self._showable(query) for query in queries]
        hidden = state[-1, :, : self.hidden]
        if self.event_types.count > 1:
            queries = [self._without_excluded(q, w) for q, w in zip(queries, windows, strict=True)]
            windows = [self.event_types.items(window) for window in windows]
        known = [at for at, window in enumerate(windows) if window]
        if len(known) < len(windows):
            hidden = hidden[known]
        clicks, known_queries = [windows[at] for at in known], [queries[at] for at in known]
        found = iter(find(hidden, clicks, known_queries))
        lists: list[Ranking | None] = []
        for window, query in zip(windows, queries, strict=True):
            if not window:
                lists.append(self._popular(query))
            else:
                top_k = next(found)
                lists.append(None if top_k is None else self._filled(top_k, query))
        return lists

    def _showable(self, query: RankingQuery) -> RankingQuery:
        """Return a query that allows available items only; a filter has left out the others."""
        if query.allowed is not None or self.catalogue.available is None:
            return query
        return replace(query, allowed=self.catalogue.available)

    def _without_excluded(self, query: RankingQuery, window: Sequence[int]) -> RankingQuery:
        """Return the query without the items that the types of their clicks exclude."""
        excluded = self.event_types.excluded(window)
        return replace(query, excluded=[*query.excluded, *excluded]) if excluded else query

    def _filled(self, top_k: TopK, query: RankingQuery) -> Ranking:
        """Return the list, or the popular one if it is empty and the query asks for that."""
        if query.backfill and not top_k.items:
            return self._popular(query)
        return Ranking(top_k.items, top_k.scores)

    def _popular(self, query: RankingQuery) -> Ranking:
        """Return the most clicked of the allowed items, recently where that counts.

        If there is none, a query with `backfill` gets them without its filter.
        """
        top_k = self._popular_items.top_k(query, self._model)
        if query.backfill and not top_k.items:
            unfiltered = replace(query, allowed=self.catalogue.available)
            top_k = self._popular_items.top_k(unfiltered, self._model)
        return Ranking(top_k.items, top_k.scores, "popular")

    @torch.inference_mode()
    def hidden_after(self, items: Tensor) -> Tensor:
        """Return the top layer's output after a session of one click, of the default type.

        Args:
            items: (B,) int64 item indices, one click each.

        Returns:
            (B, H) float32.
        """
        initial_state = torch.zeros(self.layers, len(items), self.state_width)
        clicks = items * self.event_types.count + self.event_types.numbers[None]
        return self._model.step(self._inputs, clicks, initial_state)[-1, :, : self.hidden]

    def recommend(self, clicks: Sequence[int], query: RankingQuery = DEFAULT_QUERY) -> Ranking:
        """Return the list after one session.

        Args:
            clicks: codes of known items, oldest first; the last `window` of them count.
            query: length of the list and the items it may hold.

        Returns:
            The list; the most popular items where there is no click.
        """
        window = clicks[-self.window :]
        return self.rank(self.advance([SessionState(window)]), [window], [query])[0]

    def with_blend(self, blend: Blend | None) -> "Predictor":
        """Return a predictor with the same model and these neighbours, which scores every item."""
        other = copy.copy(self)
        other.blend = blend
        other._retrieval = other.exact_retrieval
        return other

    def with_repeats(self, repeats: RepeatTerm | None) -> "Predictor":
        """Return a predictor with the same model and this repeat term, which scores every item."""
        other = copy.copy(self)
        other.repeats = repeats
        other._retrieval = other.exact_retrieval
        return other

    def with_recent(self, recent: RecentPopularity | None) -> "Predictor":
        """Return a predictor with the same model and this popularity, which scores every item."""
        other = copy.copy(self)
        other._count_recent(recent)
        other._retrieval = other.exact_retrieval
        return other

    def with_overlay(self, catalogue: Catalogue, new: PlacedItems) -> "Predictor":
        """Return a predictor with the same model for a catalogue with changes and new items.

        Args:
            catalogue: the items of this predictor, changed, and then the new ones.
            new: their vectors. A click on a new item reads its vector as its input row, so the
                input table must be the item matrix where there are any.
        """
        other = copy.copy(self)
        other.catalogue = catalogue
        if len(new):
            other._placed = new
            other._count_recent(None if self.recent is None else self.recent.followed_by(len(new)))
            other._retrieval = self._retrieval.over(other.exact_retrieval)
        return other

    def state_id(self, window: Sequence[int]) -> str:
        """Return the id of what the state after this window depends on beside the clicks.

        It is the model's id or, with new items in the window, a digest of it and of their vectors.

        Args:
            window: codes of clicks on known items.
        """
        new, items = self._new, self.event_types.items(window)
        if new is None or not items or max(items) < new.first:
            return self.model_id
        digest = blake2b(self.model_id.encode(), digest_size=STATE_ID_BYTES)
        for item in items:
            if item >= new.first:
                digest.update(new.digests[item - new.first])
        return digest.hexdigest()

    @property
    def shares_inputs(self) -> bool:
        """Return whether a click reads the vector of its item, hence also that of a new item."""
        return self._inputs is self._matrix

    def with_bias(self, term: Tensor) -> "Predictor":
        """Return a predictor with the same model and another bias, which scores every item.

        Args:
            term: (N,) float32, what is added to the bias.
        """
        other = copy.copy(self)
        other._own_bias = self._own_bias + term
        other._count_recent(self.recent)
        other._retrieval = other.exact_retrieval
        return other

    def for_index(self) -> "Predictor":
        """Return a predictor with the biases of an index: without counts that change later.

        The service adds the items that they raise to the candidates of the index.
        """
        if self.recent is None or not self.recent.is_trending:
            return self
        return self.with_recent(self.recent.without_counts())

    def with_counts(self, recent: RecentPopularity) -> "Predictor":
        """Return a predictor with the same model and retrieval, and later counts of its clicks."""
        other = copy.copy(self)
        other._count_recent(recent)
        other._retrieval = self._retrieval.over(other.exact_retrieval)
        return other

    def with_retrieval(self, retrieval: Retrieval) -> "Predictor":
        """Return a predictor with the same model that finds the best items so."""
        other = copy.copy(self)
        other._retrieval = retrieval
        return other

    def with_exact_retrieval(self) -> "Predictor":
        """Return a predictor with the same model that scores every item."""
        return self.with_retrieval(self.exact_retrieval)

    @property
    def exact_retrieval(self) -> ExactScan:
        """Return a scan of all items with this predictor's model."""
        raised = None
        if self.recent is not None and self.recent.is_trending:
            raised = self.recent.raised_among(len(self._own_bias))
        parts = self._matrix, self._bias, self.repeats, self.blend
        return ExactScan(self._model, *parts, raised, self._new)

    @torch.inference_mode()
    def scores_along(
        self,
        sessions: Sequence[NDArray[np.int32]],
        counts: ScoredRaggedArray | None = None,
    ) -> Tensor:
        """Return scores after each click but the last of every session.

        Args:
            sessions: int32 codes, below 0 where the catalogue lacks the item; such a click takes
                its place in the window and does not change the state.
            counts: newest clicks of some items at the time of each case, the others have none; for
                a predictor whose recent popularity has no counts. None for those it has.

        Returns:
            (cases, N) float32, session after session.
        """
        clicked = windows_along(sessions, self.window).known()
        clicked = RaggedArray(clicked.offsets, clicked.items // self.event_types.count)
        return self._scores(self.hidden_along(sessions), clicked, counts)

    @torch.inference_mode()
    def exclude_along(self, scores: Tensor, sessions: Sequence[NDArray[np.int32]]) -> None:
        """Set the scores of items that no list shows to -inf, in place.

        These are unavailable items, and those that the types of their clicks exclude.

        Args:
            scores: (cases, N) float32, as `scores_along` returns them.
            sessions: as for `scores_along`.
        """
        if self.catalogue.available is not None:
            scores[:, torch.from_numpy(~self.catalogue.available.mask)] = NEVER
        if not self.event_types.exclude_after:
            return
        clicked = windows_along(sessions, self.window).known()
        entries = np.flatnonzero(self.event_types.excludes(clicked.items))
        items = clicked.items[entries] // self.event_types.count
        rows = clicked.row_of_entry[entries]
        scores[torch.from_numpy(rows), torch.from_numpy(items)] = NEVER

    def hidden_along(self, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        """Return the top layer's output after each click but the last of every session.

        Args:
            sessions: as for `scores_along`.

        Returns:
            (cases, H) float32; zeros where no click of the window is known.
        """
        starts = [_known(session[: self.window]) for session in sessions]
        late = [
            _known(session[end - self.window : end])
            for session in sessions
            for end in range(self.window + 1, len(session))
        ]
        rows = torch.zeros(sum(len(session) - 1 for session in sessions), self.hidden)
        along = self._replay_full(starts)
        after_late = self._replay_full(late)
        case, late_done = 0, 0
        for at, session in enumerate(sessions):
            known = np.cumsum(session >= 0)
            for click in range(len(session) - 1):
                if click < self.window:
                    hidden, count = along[at], int(known[click])
                else:
                    hidden, count = after_late[late_done], len(late[late_done])
                    late_done += 1
                if count:
                    rows[case] = hidden[count - 1]
                case += 1
        return rows

    def _replay_full(self, windows: Sequence[list[int]]) -> list[Tensor]:
        """Return the top layer after each click of each window, (T, H); (0, H) for an empty one."""
        full = [at for at, window in enumerate(windows) if window]
        outputs = [torch.zeros(0, self.hidden)] * len(windows)
        if full:
            for at, rows in zip(full, self._replay([windows[at] for at in full])[0], strict=True):
                outputs[at] = rows
        return outputs

    def _replay(self, windows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(window) for window in windows])
        clicks = torch.zeros(len(windows), int(lengths.max()), dtype=torch.int64)
        for row, window in enumerate(windows):
            clicks[row, : len(window)] = torch.tensor(window)
        return self._model.replay(*self._input_rows(clicks), lengths)

    def _input_rows(self, clicks: Tensor) -> tuple[Tensor, Tensor]:
        """Return an input table that holds all clicked items, and the codes of its rows.

        It is the table of the bundle or, with a click on a new item, a copy of the rows clicked.
        """
        new, types = self._new, self.event_types.count
        if new is None or int(clicks.max()) < new.first * types:
            return self._inputs, clicks
        items, rows = torch.unique(clicks // types, return_inverse=True)
        is_new = items >= new.first
        table = torch.empty(len(items), self._inputs.size(1))
        table[~is_new] = self._inputs[items[~is_new]]
        table[is_new] = new.matrix[items[is_new] - new.first]
        return table, rows * types + clicks % types

    def _scores(
        self, hidden: Tensor, windows: RaggedArray, counts: ScoredRaggedArray | None
    ) -> Tensor:
        recent, popular = self.recent, np.flatnonzero(windows.lengths == 0)
        if counts is None or recent is None:
            scores = self.exact_retrieval.scores(hidden, windows.lists())
            scores[torch.from_numpy(popular)] = torch.from_numpy(self._popular_items.shares)
            return scores
        more = recent.term_of(counts.scores) - recent.term_of(np.zeros(1))
        terms = ScoredRaggedArray(counts.offsets, counts.items, more.astype(np.float64))
        scores = self.exact_retrieval.scores(hidden, windows.lists(), terms)
        for row in popular.tolist():
            newest = np.zeros(len(self.catalogue))
            entries = slice(counts.offsets[row], counts.offsets[row + 1])
            newest[counts.items[entries]] = counts.scores[entries]
            popular_then = PopularItems.of(self.catalogue, recent.recounted(newest, recent.at_ms))
            scores[row] = torch.from_numpy(popular_then.shares)
        return scores

    @torch.inference_mode()
    def similar(self, item: int, query: RankingQuery = DEFAULT_QUERY) -> Ranking:
        """Return the items whose vectors have the largest cosine with one item's vector.

        Args:
            item: item index; it is not in the list.
            query: length of the list, the items it may hold and its rules.

        Returns:
            The list; its scores are cosines, -1 to 1.
        """
        scans = (
            [self._cosines] if self._new is None else [self._cosines, _Cosines(self._new.matrix)]
        )
        known = len(self._matrix)
        vector = scans[0].matrix[item] if item < known else scans[1].matrix[item - known]
        cosine = torch.cat([scan.with_vector(vector) for scan in scans])
        query = self._showable(replace(query, excluded=[*query.excluded, item]))
        (top_k,) = top_k_lists(self._model, cosine.unsqueeze(0), [query])
        return self._filled(top_k, query)


class _Cosines:
    """Cosines with all vectors of a table, whose lengths are computed once."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix  # (N, H)

    @cached_property
    def _lengths(self) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(self.matrix, dim=1)
        return lengths

    def with_vector(self, vector: Tensor) -> Tensor:
        """Return (N,) float32; vector: (H,)."""
        lengths = self._lengths * torch.linalg.vector_norm(vector)
        cosines: Tensor = (self.matrix @ vector) / lengths.clamp(min=1e-12)
        return cosines


def _known(session: NDArray[np.int32]) -> list[int]:
    return [item for item in session.tolist() if item >= 0]
