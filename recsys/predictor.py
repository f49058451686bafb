"""A model that answers clicks, synchronously and in batches; shared by evaluation and service.

Item indices in, lists of item indices out. Knows the window and the popular list; knows nothing
of Redis, HTTP or files.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.catalogue.catalogue import Catalogue
from recsys.neighbours.blend import Blend
from recsys.ragged import RaggedArray, rows_of, windows_along
from recsys.retrieval.candidates import Windows
from recsys.retrieval.exact import LIST, ExactScan, RankingQuery, Retrieval, TopK, best_of

Source = Literal["model", "popular"]


class SessionModel(Protocol):
    """What a predictor asks of a model, eager or scripted; shapes as in `recsys.model.gru4rec`."""

    def step(self, inputs: Tensor, clicked: Tensor, state: Tensor) -> Tensor: ...
    def replay(self, inputs: Tensor, clicks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]: ...
    def scores(self, matrix: Tensor, bias: Tensor, read: Tensor) -> Tensor: ...
    def top_k(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, slots=True)
class SessionState:
    """What is known of a session: a state, and the known items clicked since then.

    state: (L, W) float32, or None where the clicks are the whole window, to be read from zero.
    """

    clicks: Sequence[int]
    state: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Item indices in falling score; shorter than asked where few items are allowed."""

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
        blend: Blend | None = None,
        retrieval: Retrieval | None = None,
    ) -> None:
        """inputs: the table that clicks are read from, None where it is the item matrix.

        retrieval: what finds the best items, None to score every one of them.
        """
        self.catalogue = catalogue
        self.layers = layers
        self.state_width = state_width
        self.hidden = int(matrix.size(1))
        self.window = window
        self.model_id = model_id
        self.blend = blend
        self._model = model
        self._matrix = matrix
        self._inputs = matrix if inputs is None else inputs
        self._bias = bias
        self._retrieval = retrieval or ExactScan(model, matrix, bias)
        self._popularity = torch.from_numpy(catalogue.popularity)

    @torch.inference_mode()
    def advance(self, memories: Sequence[SessionState]) -> Tensor:
        """The state after every memory's clicks: (L, B, W) float32, zeros for a blank one."""
        if all(memory.state is not None for memory in memories) and memories:
            state = torch.stack([m.state for m in memories if m.state is not None], dim=1)
        else:
            state = torch.zeros(self.layers, len(memories), self.state_width)
            for at, memory in enumerate(memories):
                if memory.state is not None:
                    state[:, at] = memory.state
        # one click from zero is a step like any other, and goes along with the others
        replayed = [at for at, m in enumerate(memories) if m.state is None and len(m.clicks) > 1]
        if replayed:
            state[:, replayed] = self._replay([memories[at].clicks for at in replayed])[1]
        stepping = [
            at
            for at, m in enumerate(memories)
            if m.clicks and (m.state is not None or len(m.clicks) == 1)
        ]
        done = 0
        while stepping:
            clicked = torch.tensor([memories[at].clicks[done] for at in stepping])
            if len(stepping) == len(memories):
                state = self._model.step(self._inputs, clicked, state)
            else:
                state[:, stepping] = self._model.step(self._inputs, clicked, state[:, stepping])
            done += 1
            stepping = [at for at in stepping if len(memories[at].clicks) > done]
        return state

    @torch.inference_mode()
    def rank(
        self, state: Tensor, windows: Sequence[Sequence[int]], wishes: Sequence[RankingQuery]
    ) -> list[Ranking]:
        """A list for every session.

        state: (L, B, W); windows: the known items clicked in each session's window, oldest first,
        which neighbours and lists are found by; where there is none, popularity answers instead.
        """
        found = self._rank(self._retrieval.best, state, windows, wishes)
        return [ranking for ranking in found if ranking is not None]

    @torch.inference_mode()
    def rank_quickly(
        self, state: Tensor, windows: Sequence[Sequence[int]], wishes: Sequence[RankingQuery]
    ) -> list[Ranking | None]:
        """The same, but None where the index leaves no choice but to score every item."""
        return self._rank(self._retrieval.quick_best, state, windows, wishes)

    def _rank(
        self,
        find: Callable[[Tensor, Windows, Sequence[RankingQuery]], Sequence[TopK | None]],
        state: Tensor,
        windows: Sequence[Sequence[int]],
        wishes: Sequence[RankingQuery],
    ) -> list[Ranking | None]:
        read = state[-1, :, : self.hidden]
        if self.blend is None:
            known = [at for at, window in enumerate(windows) if window]
            if len(known) < len(windows):
                read = read[known]
            clicks, asked = [windows[at] for at in known], [wishes[at] for at in known]
            lists: Sequence[TopK | None] = find(read, clicks, asked)
            found = dict(zip(known, lists, strict=True))
        else:
            scores = self._scores(read, rows_of(windows))
            found = dict(enumerate(best_of(self._model, scores, wishes)))
        return [
            _ranking(found[at]) if window else self._popular(wish)
            for at, (window, wish) in enumerate(zip(windows, wishes, strict=True))
        ]

    def _popular(self, wish: RankingQuery) -> Ranking:
        """The most clicked of what is allowed."""
        left_out = set(wish.excluded)
        order = self.catalogue.by_popularity
        if wish.allowed is not None:
            order = order[wish.allowed[order]]
        items = [item for item in order[: wish.k + len(left_out)].tolist() if item not in left_out]
        items = items[: wish.k]
        return Ranking(items, self.catalogue.popularity[items].tolist(), "popular")

    @torch.inference_mode()
    def reads_after(self, items: Tensor) -> Tensor:
        """The top layer's output after one click, on each of `items` (B,) int64: (B, H)."""
        blank = torch.zeros(self.layers, len(items), self.state_width)
        return self._model.step(self._inputs, items, blank)[-1, :, : self.hidden]

    def recommend(self, clicks: Sequence[int], wish: RankingQuery = LIST) -> Ranking:
        """The list after one session of known items, the last `window` of which count."""
        window = clicks[-self.window :]
        return self.rank(self.advance([SessionState(window)]), [window], [wish])[0]

    def alone(self) -> "Predictor":
        """The same model without its neighbours."""
        other = copy.copy(self)
        other.blend = None
        return other

    def exactly(self) -> "Predictor":
        """The same predictor, which overlooks nothing."""
        other = copy.copy(self)
        other._retrieval = self.exact_retrieval
        return other

    @property
    def exact_retrieval(self) -> ExactScan:
        """What overlooks nothing."""
        return ExactScan(self._model, self._matrix, self._bias)

    @torch.inference_mode()
    def scores_along(self, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        """Scores after each click but the last of every session: (cases, N) float32.

        sessions: item indices, -1 where the catalogue lacks the item; such a click takes its
        place in the window and moves nothing. Cases stand session after session.
        """
        clicked = windows_along(sessions, self.window).known()
        return self._scores(self.reads_along(sessions), clicked)

    def reads_along(self, sessions: Sequence[NDArray[np.int32]]) -> Tensor:
        """The top layer's output before each case, (cases, H); zeros where no click is known."""
        starts = [_known(session[: self.window]) for session in sessions]
        late = [
            _known(session[end - self.window : end])
            for session in sessions
            for end in range(self.window + 1, len(session))
        ]
        rows = torch.zeros(sum(len(session) - 1 for session in sessions), self.hidden)
        along = self._replay_full(starts)
        after_late = self._replay_full(late)
        case, seen_late = 0, 0
        for at, session in enumerate(sessions):
            known = np.cumsum(session >= 0)
            for click in range(len(session) - 1):
                if click < self.window:
                    read, count = along[at], int(known[click])
                else:
                    read, count = after_late[seen_late], len(late[seen_late])
                    seen_late += 1
                if count:
                    rows[case] = read[count - 1]
                case += 1
        return rows

    def _replay_full(self, windows: Sequence[list[int]]) -> list[Tensor]:
        """The top layer after each click of each window, (T, H); empty windows give nothing."""
        full = [at for at, window in enumerate(windows) if window]
        reads = [torch.zeros(0, self.hidden)] * len(windows)
        if full:
            for at, read in zip(full, self._replay([windows[at] for at in full])[0], strict=True):
                reads[at] = read
        return reads

    def _replay(self, windows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(window) for window in windows])
        clicks = torch.zeros(len(windows), int(lengths.max()), dtype=torch.int64)
        for row, window in enumerate(windows):
            clicks[row, : len(window)] = torch.tensor(window)
        return self._model.replay(self._inputs, clicks, lengths)

    def _scores(self, read: Tensor, windows: RaggedArray) -> Tensor:
        scores = self._model.scores(self._matrix, self._bias, read)
        if self.blend is not None:
            scores = self.blend.mix(scores, windows)
        scores[torch.from_numpy(windows.lengths == 0)] = self._popularity
        return scores

    @torch.inference_mode()
    def similar(self, item: int, k: int) -> Ranking:
        """Items whose vectors point the same way (cosine), the item itself left out."""
        own = self._matrix[item]
        norms = torch.linalg.vector_norm(self._matrix, dim=1) * torch.linalg.vector_norm(own)
        cosine = (self._matrix @ own) / norms.clamp(min=1e-12)
        best = best_of(self._model, cosine.unsqueeze(0), [RankingQuery(k, excluded=[item])])[0]
        return Ranking(best.items, best.scores)


def _known(session: NDArray[np.int32]) -> list[int]:
    return [item for item in session.tolist() if item >= 0]


def _ranking(found: TopK | None) -> Ranking | None:
    return None if found is None else Ranking(found.items, found.scores)
