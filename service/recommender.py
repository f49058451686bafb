"""Clicks in, lists out: visit the store, bring the state up to date, rank, keep the state.

What to say when Redis is silent, what an unknown item does, and what a stranger gets is decided
here. A batch that takes milliseconds is ranked at once, a longer one in a worker thread, so that
the event loop always comes round.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys.catalogue.catalogue import Filter
from recsys.errors import StoreUnavailable, UnknownAttribute
from recsys.predictor import Predictor, Ranking, SessionState, Source
from recsys.retrieval.exact import RankingQuery
from service.metrics import ServiceMetrics
from service.store.session_store import Click, ComputedState, Store, StoredSession, Visit
from service.store.state_codec import Tag, decode, encode

FLUSH_SECONDS = 0.02  # how long a state waits for a round trip to go along with
# A batch expected to take less is ranked where it is. Two threads of which one runs Python and the
# other small tensors cost each other a third of their time, measured at 50,000 items.
AT_ONCE_SECONDS = 0.01
REMEMBERED = 0.9  # of what a question took before
Found = TypeVar("Found", Ranking, Ranking | None)


@dataclass(frozen=True, slots=True)
class RecommendationQuery:
    """One request for a list: a user, whose `click` is recorded first, or a session in `items`."""

    user_id: str | None = None
    click: Click | None = None
    items: Sequence[str] = ()
    k: int = 20
    exclude_seen: bool = False
    exclude_items: Sequence[str] = ()
    filter: Filter = field(default_factory=dict)

    @property
    def own_items(self) -> list[str]:
        """The items this request itself names as clicked."""
        return [self.click.item_id] if self.click is not None else list(self.items)


@dataclass(frozen=True, slots=True)
class RecommendationResult:
    """Item ids in falling score, and how they came about."""

    model_id: str
    source: Source
    degraded: bool  # the stored session could not be used
    stored: bool  # the click of this request is in Redis
    unknown_items: list[str]
    items: list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class _Session:
    """What one question is answered from."""

    memory: SessionState
    known: Sequence[int]  # items clicked in the window that the model knows
    seen: Sequence[str]
    how: str  # hit, step, replay, blank, stateless
    stored: StoredSession | None = None
    degraded: bool = False


class Recommender:
    """Answers batches of questions with one predictor and one store."""

    def __init__(
        self,
        predictor: Predictor,
        store: Store,
        metrics: ServiceMetrics,
        torch: ThreadPoolExecutor,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """torch: the worker thread. clock: processor seconds of the calling thread.

        What other threads and processes take of the processor is not this batch's.
        """
        self._clock = clock
        self.predictor = predictor
        self._store = store
        self._metrics = metrics
        self._torch = torch
        self._computed: list[ComputedState] = []  # states that wait for the next round trip
        self._flushing: asyncio.Task[None] | None = None
        self._seconds_each = AT_ONCE_SECONDS  # to rank one question, lately

    async def close(self) -> None:
        """Write the states that wait."""
        if self._flushing is not None:
            await asyncio.wait({self._flushing})
        await self._exchange([])

    def check_filter(self, wanted: Filter, field: str = "filter") -> None:
        """Raises `UnknownAttribute`, before the request waits in any queue."""
        refusal = self._refusal(wanted, field)
        if refusal is not None:
            raise refusal

    def _refusal(self, wanted: Filter, field: str = "filter") -> UnknownAttribute | None:
        attributes = self.predictor.catalogue.attributes
        for attribute in wanted:
            if attribute not in attributes:
                return UnknownAttribute(attribute, sorted(attributes), field)
        return None

    async def answer(
        self, questions: Sequence[RecommendationQuery]
    ) -> list[RecommendationResult | Exception]:
        """One answer a question, or why there is none: its filter was checked by another model."""
        self._metrics.batch_size.observe(len(questions))
        sessions = await self._sessions(questions)
        state, rankings = await self._ranked(questions, sessions)
        self._keep(questions, sessions, state)
        self._count(sessions, rankings)
        return [
            self._refusal(question.filter) or self._answer(question, session, ranking)
            for question, session, ranking in zip(questions, sessions, rankings, strict=True)
        ]

    def similar(self, item_id: str, k: int) -> list[tuple[str, float]]:
        """Items like this one by cosine; raises `UnknownItem`. Takes a look at every item."""
        item = self.predictor.catalogue.index(item_id)
        return self._named(self.predictor.similar(item, k))

    def state_after(self, item_ids: Sequence[str]) -> list[list[float]]:
        """The hidden state that these clicks leave behind, (L, W), for those who want to see it."""
        memory = SessionState(self._known(item_ids[-self.predictor.window :]))
        numbers: list[list[float]] = self.predictor.advance([memory])[:, 0].tolist()
        return numbers

    def unknown(self, item_ids: Sequence[str]) -> list[str]:
        """Those the model does not know, each once, in order."""
        find = self.predictor.catalogue.find
        return list(dict.fromkeys(item_id for item_id in item_ids if find(item_id) is None))

    async def _sessions(self, questions: Sequence[RecommendationQuery]) -> list[_Session]:
        """What each question is answered from; one store round trip for all that name a user."""
        visiting = [at for at, question in enumerate(questions) if question.user_id is not None]
        if not visiting:  # what needs no Redis does not wait for it
            return [self._session(question, None) for question in questions]
        replies = await self._exchange([_visit(questions[at]) for at in visiting])
        found = dict(zip(visiting, replies, strict=True))
        return [self._session(question, found.get(at)) for at, question in enumerate(questions)]

    def _session(
        self, question: RecommendationQuery, reply: StoredSession | StoreUnavailable | None
    ) -> _Session:
        if isinstance(reply, StoredSession):
            return self._stored_session(question, reply)
        known = self._known(question.own_items[-self.predictor.window :])
        return _Session(
            SessionState(known),
            known,
            seen=question.own_items,
            how="stateless",
            degraded=isinstance(reply, StoreUnavailable),
        )

    def _stored_session(self, question: RecommendationQuery, stored: StoredSession) -> _Session:
        """The cached state and the steps it lacks where its tag fits, else the whole window.

        A click that Redis refused counts for this answer as if it were stored.
        """
        predictor = self.predictor
        refused = question.own_items if stored.refused else []
        seen = [*stored.item_ids, *refused]
        count = stored.count + len(refused)
        window = seen[-predictor.window :]
        known = self._known(window)
        cached = decode(stored.state, predictor.layers, predictor.state_width)
        if cached is not None:
            tag, state = cached
            behind = count - tag.clicks
            same = (tag.model_id, tag.nonce) == (predictor.model_id, stored.nonce)
            whole = count <= len(window)  # nothing has left the window yet
            if same and (behind == 0 or (behind > 0 and whole)):
                missing = self._known(window[len(window) - behind :]) if behind else []
                how = "step" if behind else "hit"
                return _Session(SessionState(missing, state), known, seen, how, stored)
        return _Session(SessionState(known), known, seen, "replay" if known else "blank", stored)

    def _known(self, item_ids: Sequence[str]) -> list[int]:
        find = self.predictor.catalogue.find
        return [item for item_id in item_ids if (item := find(item_id)) is not None]

    async def _ranked(
        self, questions: Sequence[RecommendationQuery], sessions: Sequence[_Session]
    ) -> tuple[Tensor, list[Ranking]]:
        """Rank here what is quick; what would keep the event loop too long, in the worker thread.

        A filter, or a list that the index cannot give, may take a look at every item.
        """
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._torch)
        quick = self._seconds_each * len(questions) < AT_ONCE_SECONDS
        if not quick or any(question.filter for question in questions):
            return await in_thread(self._rank, questions, sessions)
        state, found = self._rank_quickly(questions, sessions)
        lost = [at for at, ranking in enumerate(found) if ranking is None]
        if lost:
            rest = await in_thread(
                self._lists,
                self.predictor.rank,
                state[:, lost],
                [questions[at] for at in lost],
                [sessions[at] for at in lost],
            )
            for at, ranking in zip(lost, rest, strict=True):
                found[at] = ranking
        return state, [ranking for ranking in found if ranking is not None]

    def _rank(
        self, questions: Sequence[RecommendationQuery], sessions: Sequence[_Session]
    ) -> tuple[Tensor, list[Ranking]]:
        with self._timed(questions):
            state = self.predictor.advance([session.memory for session in sessions])
            return state, self._lists(self.predictor.rank, state, questions, sessions)

    def _rank_quickly(
        self, questions: Sequence[RecommendationQuery], sessions: Sequence[_Session]
    ) -> tuple[Tensor, list[Ranking | None]]:
        with self._timed(questions):
            state = self.predictor.advance([session.memory for session in sessions])
            return state, self._lists(self.predictor.rank_quickly, state, questions, sessions)

    def _lists(
        self,
        rank: Callable[[Tensor, Sequence[Sequence[int]], Sequence[RankingQuery]], list[Found]],
        state: Tensor,
        questions: Sequence[RecommendationQuery],
        sessions: Sequence[_Session],
    ) -> list[Found]:
        wishes = [self._wish(q, s) for q, s in zip(questions, sessions, strict=True)]
        return rank(state, [session.known for session in sessions], wishes)

    @contextmanager
    def _timed(self, questions: Sequence[RecommendationQuery]) -> Iterator[None]:
        """Learn what a question without a filter takes of this thread's processor time."""
        began = self._clock()
        yield
        if not any(question.filter for question in questions):
            took = (self._clock() - began) / len(questions)
            self._seconds_each += (1 - REMEMBERED) * (took - self._seconds_each)

    def _wish(self, question: RecommendationQuery, session: _Session) -> RankingQuery:
        excluded = list(question.exclude_items)
        if question.exclude_seen:
            excluded += [*session.seen, *question.own_items]
        return RankingQuery(question.k, self._known(excluded), self._allowed(question.filter))

    def _allowed(self, wanted: Filter) -> NDArray[np.bool_] | None:
        if not wanted or self._refusal(wanted) is not None:
            return None
        return self.predictor.catalogue.allowed(wanted)

    def _keep(
        self, questions: Sequence[RecommendationQuery], sessions: Sequence[_Session], state: Tensor
    ) -> None:
        """Queue new states for the next round trip."""
        self._metrics.count_states(Counter(session.how for session in sessions))
        states = state.transpose(0, 1).contiguous().numpy()
        for own, question, session in zip(states, questions, sessions, strict=True):
            stored = session.stored
            if stored is None or stored.refused or question.user_id is None:
                continue
            if session.how not in ("step", "replay"):
                continue
            tag = Tag(self.predictor.model_id, stored.nonce, stored.count)
            kept = ComputedState(question.user_id, stored.head, encode(tag, own))
            self._computed.append(kept)
        if self._computed and (self._flushing is None or self._flushing.done()):
            self._flushing = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        """Write the states that no request takes along, also those that come meanwhile."""
        while self._computed:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._exchange([])

    async def _exchange(self, visits: Sequence[Visit]) -> list[StoredSession | StoreUnavailable]:
        """One round trip: states of earlier answers are written, then users are visited."""
        computed, self._computed = self._computed, []
        if not computed and not visits:
            return []
        kept, replies = await self._store.exchange(computed, visits)
        self._metrics.count_kept(kept, len(computed) - kept)
        return replies

    def _count(self, sessions: Sequence[_Session], rankings: Sequence[Ranking]) -> None:
        """Once a batch."""
        pairs = zip(rankings, sessions, strict=True)
        self._metrics.count_answers(Counter((r.source, s.degraded) for r, s in pairs))

    def _answer(
        self, question: RecommendationQuery, session: _Session, ranking: Ranking
    ) -> RecommendationResult:
        return RecommendationResult(
            model_id=self.predictor.model_id,
            source=ranking.source,
            degraded=session.degraded,
            stored=question.click is not None and _confirmed(session.stored),
            unknown_items=self.unknown(question.own_items),
            items=self._named(ranking),
        )

    def _named(self, ranking: Ranking) -> list[tuple[str, float]]:
        ids = self.predictor.catalogue.item_ids.take(ranking.items)
        return list(zip(ids, ranking.scores, strict=True))


def _visit(question: RecommendationQuery) -> Visit:
    assert question.user_id is not None, "only questions of users visit the store"
    return Visit(question.user_id, () if question.click is None else (question.click,))


def _confirmed(stored: StoredSession | None) -> bool:
    """The click is in Redis: taken now or known before; not a repeat from before a deletion."""
    return stored is not None and stored.accepted + stored.duplicates > stored.forgotten
