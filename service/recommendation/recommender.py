"""Answer queries: visit the store, bring the hidden states up to date, rank, store the states.

query_session.py states the law of the hidden state, and decides which stored state is used.

If Redis does not answer, the result is computed from the query alone and is degraded. Unknown items
are skipped and reported. A user without a known click gets the popular list.

A batch that takes milliseconds is ranked in the event loop. A longer one is ranked in a worker
thread, so that the event loop goes on. So are rules, and the first filter by an attribute, which
sorts the items by its values.
"""

import asyncio
import copy
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self, TypeVar

from torch import Tensor

from recsys.catalogue.attributes import Range
from recsys.catalogue.catalogue import CACHED_FILTER_VALUES
from recsys.errors import WrongAttribute
from recsys.predictor import Predictor, Ranking, SessionState
from recsys.retrieval.exact import RankingQuery
from service.feedback.impressions import Impressions
from service.metrics import ServiceMetrics
from service.recommendation.list_rules import ListQuery, check_rules, ranking_query
from service.recommendation.queries import ItemList, RecommendationQuery, RecommendationResult
from service.recommendation.query_session import QuerySession, session_of
from service.store.session_store import ComputedState, Store, StoredSession, Visit
from service.store.state_codec import StateTag, encode
from service.store.state_writer import StateWriter

# A batch that is expected to take less is ranked in the event loop. Two threads, one with Python
# code and one with small tensors, each lose a third of their time (measured at 50,000 items).
IN_LOOP_SECONDS = 0.01
SMOOTHING = 0.9  # weight of the past in the average time of a query
RankingType = TypeVar("RankingType", Ranking, Ranking | None)
Rank = Callable[[Tensor, Sequence[Sequence[int]], Sequence[RankingQuery]], list[RankingType]]


class Recommender:
    """Answer batches of queries with one predictor and one store.

    Args:
        predictor: the model.
        store: the sessions of users.
        metrics: counters and histograms.
        worker: thread for batches that take long.
        impressions: log of the lists; None if there is no feedback.
        clock: processor seconds of the calling thread, so that what other threads and processes
            take does not count.
    """

    def __init__(
        self,
        predictor: Predictor,
        store: Store,
        metrics: ServiceMetrics,
        worker: ThreadPoolExecutor,
        impressions: Impressions | None = None,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock = clock
        self.predictor = predictor
        self.variant: str | None = None  # name of the bundle while an experiment runs
        self._states = StateWriter(store, metrics.count_kept)
        self._metrics = metrics
        self._worker = worker
        self._impressions = impressions
        self._seconds_per_query = IN_LOOP_SECONDS  # moving average of the ranking time
        self._filtered: set[tuple[str, bool]] = set()  # attributes of filters; whether by a range

    async def close(self) -> None:
        """Store the states that wait."""
        await self._states.close()

    def with_predictor(self, predictor: Predictor) -> Self:
        """Return a recommender with the same model and another overlay; batches end with theirs."""
        other = copy.copy(self)
        other.predictor = predictor
        return other

    def with_variant(self, variant: str | None) -> Self:
        """Return the same recommender, whose answers name this variant."""
        other = copy.copy(self)
        other.variant = variant
        return other

    def check(self, query: ListQuery, prefix: str = "") -> None:
        """Check rules before their request waits in a queue; raise as `check_rules` does."""
        check_rules(query, self.predictor.catalogue, prefix)

    def _error(self, query: ListQuery) -> WrongAttribute | None:
        try:
            self.check(query)
        except WrongAttribute as error:
            return error
        return None

    async def recommend(
        self, queries: Sequence[RecommendationQuery]
    ) -> list[RecommendationResult | Exception]:
        """Record the clicks of queries and rank items for each.

        Args:
            queries: the batch. Clicks of one user are recorded in this order.

        Returns:
            For each query a result, or `WrongAttribute` if its rules were checked by a model with
            other attributes.
        """
        self._metrics.batch_size.observe(len(queries))
        sessions = await self._sessions(queries)
        states, rankings = await self._rank_anywhere(queries, sessions)
        self._queue_states(queries, sessions, states)
        self._count_answers(sessions, rankings)
        return [
            self._error(query) or self._result(query, session, ranking)
            for query, session, ranking in zip(queries, sessions, rankings, strict=True)
        ]

    def similar(self, item_id: str, query: ListQuery) -> ItemList:
        """Return the items most similar to an item by cosine. It scores every item.

        Raises:
            UnknownItem: if the item is not in the catalogue.
            WrongAttribute: if the rules name an attribute that the items do not have.
        """
        catalogue = self.predictor.catalogue
        self.check(query)
        item = catalogue.index(item_id)
        rules = ranking_query(query, catalogue, query.exclude_items)
        ranking = self.predictor.similar(item, rules)
        return ItemList(
            self.predictor.model_id,
            ranking.source,
            self.unknown(query.pin),
            self._named(ranking),
            self._attributes(query, ranking),
        )

    def state_after(
        self, item_ids: Sequence[str], event_types: Sequence[str | None] = ()
    ) -> list[list[float]]:
        """Return the hidden state after these clicks, of shape (L, width).

        event_types: types of the clicks; empty where none has one.
        """
        recent = slice(-self.predictor.window, None)
        known = self.predictor.known(item_ids[recent], event_types[recent] or None)
        model_input = SessionState(known)
        numbers: list[list[float]] = self.predictor.advance([model_input])[:, 0].tolist()
        return numbers

    def unknown(self, item_ids: Sequence[str]) -> list[str]:
        """Return the items that the model does not know, each once, in order."""
        find = self.predictor.catalogue.find
        return list(dict.fromkeys(item_id for item_id in item_ids if find(item_id) is None))

    def unknown_event_types(self, event_types: Sequence[str | None]) -> list[str]:
        """Return the types of new clicks that the model does not know, each once; count them."""
        unknown = self.predictor.event_types.unknown(event_types)
        if unknown:
            clicks = sum(event_type in unknown for event_type in event_types)
            self._metrics.unknown_event_types.inc(clicks)
        return unknown

    async def _sessions(self, queries: Sequence[RecommendationQuery]) -> list[QuerySession]:
        """Return the session of each query, after one round trip for all that name a user."""
        of_users = [index for index, query in enumerate(queries) if query.user_id is not None]
        if not of_users:  # a query without a user does not wait for Redis
            return [session_of(query, None, self.predictor) for query in queries]
        visits = [self._visit(queries[index]) for index in of_users]
        replies = await self._states.exchange(visits)
        stored = dict(zip(of_users, replies, strict=True))
        return [
            session_of(query, stored.get(index), self.predictor)
            for index, query in enumerate(queries)
        ]

    def _visit(self, query: RecommendationQuery) -> Visit:
        assert query.user_id is not None, "only queries of users visit the store"
        clicks = () if query.click is None else (query.click,)
        return Visit(query.user_id, clicks, self.predictor.model_id, self.variant)

    async def _rank_anywhere(
        self, queries: Sequence[RecommendationQuery], sessions: Sequence[QuerySession]
    ) -> tuple[Tensor, list[Ranking]]:
        """Rank in the event loop what is quick, and in the worker thread what takes longer.

        Rules may take long, and so may a list that the index or a short scan cannot give.
        """
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._worker)
        if any(self._may_take_long(query) for query in queries):
            ranked = await in_thread(self._rank, self.predictor.rank, queries, sessions)
            self._filtered.update(*(_attributes(query) for query in queries))
            return ranked
        quick = self._seconds_per_query * len(queries) < IN_LOOP_SECONDS
        states, rankings = (
            self._rank_quickly(queries, sessions)
            if quick
            else await in_thread(self._rank_quickly, queries, sessions)
        )
        missing = [index for index, ranking in enumerate(rankings) if ranking is None]
        if missing:
            completed = await in_thread(
                self._rankings,
                self.predictor.rank,
                states[:, missing],
                [queries[index] for index in missing],
                [sessions[index] for index in missing],
            )
            for index, ranking in zip(missing, completed, strict=True):
                rankings[index] = ranking
        return states, [ranking for ranking in rankings if ranking is not None]

    def _rank(
        self,
        rank: Rank[RankingType],
        queries: Sequence[RecommendationQuery],
        sessions: Sequence[QuerySession],
    ) -> tuple[Tensor, list[RankingType]]:
        states = self.predictor.advance([session.model_input for session in sessions])
        return states, self._rankings(rank, states, queries, sessions)

    def _rank_quickly(
        self, queries: Sequence[RecommendationQuery], sessions: Sequence[QuerySession]
    ) -> tuple[Tensor, list[Ranking | None]]:
        """Rank what is quick, and measure the processor time of this thread for a query."""
        began = self._clock()
        ranked = self._rank(self.predictor.rank_quickly, queries, sessions)
        seconds = (self._clock() - began) / len(queries)
        self._seconds_per_query += (1 - SMOOTHING) * (seconds - self._seconds_per_query)
        return ranked

    def _rankings(
        self,
        rank: Rank[RankingType],
        states: Tensor,
        queries: Sequence[RecommendationQuery],
        sessions: Sequence[QuerySession],
    ) -> list[RankingType]:
        """Call a method of the predictor; states: (L, B, width)."""
        ranking_queries = [
            self._ranking_query(query, session)
            for query, session in zip(queries, sessions, strict=True)
        ]
        return rank(states, [session.window for session in sessions], ranking_queries)

    def _may_take_long(self, query: RecommendationQuery) -> bool:
        """Return whether a query has rules, or a filter that may be the first by an attribute.

        A filter that is too long to be cached counts, too.
        """
        if not (query.filter or query.has_rules):
            return False
        values = [each for each in query.filter.values() if not isinstance(each, Range)]
        is_long = sum(map(len, values)) > CACHED_FILTER_VALUES
        return query.has_rules or is_long or not self._filtered >= _attributes(query)

    def _ranking_query(self, query: RecommendationQuery, session: QuerySession) -> RankingQuery:
        if self._error(query) is not None:
            return RankingQuery(query.k)  # its list is not answered
        excluded = list(query.exclude_items)
        if query.exclude_seen:
            excluded += [*session.item_ids, *query.own_items]
        return ranking_query(query, self.predictor.catalogue, excluded)

    def _queue_states(
        self,
        queries: Sequence[RecommendationQuery],
        sessions: Sequence[QuerySession],
        states: Tensor,
    ) -> None:
        """Queue new states for the next round trip; states: (L, B, width)."""
        self._metrics.count_states(Counter(session.origin for session in sessions))
        computed = []
        arrays = states.transpose(0, 1).contiguous().numpy()
        for array, query, session in zip(arrays, queries, sessions, strict=True):
            stored = session.stored
            if stored is None or stored.refused or query.user_id is None:
                continue
            if session.origin not in ("step", "replay"):
                continue
            tag = StateTag(self.predictor.state_id(session.window), stored.nonce, stored.count)
            computed.append(ComputedState(query.user_id, stored.head, encode(tag, array)))
        self._states.add(computed)

    def _count_answers(self, sessions: Sequence[QuerySession], rankings: Sequence[Ranking]) -> None:
        """Count the answers of a batch, with one call."""
        pairs = zip(rankings, sessions, strict=True)
        self._metrics.count_answers(Counter((r.source, s.degraded) for r, s in pairs))

    def _result(
        self, query: RecommendationQuery, session: QuerySession, ranking: Ranking
    ) -> RecommendationResult:
        items = self._named(ranking)
        return RecommendationResult(
            self.predictor.model_id,
            ranking.source,
            self.unknown([*query.own_items, *query.pin]),
            items,
            self._attributes(query, ranking),
            degraded=session.degraded,
            stored=query.click is not None and _is_click_stored(session.stored),
            unknown_event_types=self.unknown_event_types(query.own_types),
            variant=self.variant,
            list_id=self._log(session, ranking, items),
        )

    def _log(
        self, session: QuerySession, ranking: Ranking, items: Sequence[tuple[str, float]]
    ) -> str | None:
        """Log the list of a stored session, and return its id; None if it is not logged."""
        if self._impressions is None or session.stored is None:
            return None
        return self._impressions.add(
            session.stored.key,
            session.stored.nonce,
            model_id=self.predictor.model_id,
            variant=self.variant,
            source=ranking.source,
            items=[item_id for item_id, _ in items],
        )

    def _named(self, ranking: Ranking) -> list[tuple[str, float]]:
        """Return the item ids of a ranking with their scores."""
        ids = self.predictor.catalogue.item_ids.take(ranking.items)
        return list(zip(ids, ranking.scores, strict=True))

    def _attributes(self, query: ListQuery, ranking: Ranking) -> list[dict[str, str]] | None:
        """Return the attributes that the query asks for, of each item of a ranking."""
        if not query.fields:
            return None
        catalogue = self.predictor.catalogue
        return [catalogue.attributes_of(item, query.fields) for item in ranking.items]


def _attributes(query: ListQuery) -> set[tuple[str, bool]]:
    """Return the attributes of a filter, each with whether it is a range that is asked for."""
    return {(name, isinstance(values, Range)) for name, values in query.filter.items()}


def _is_click_stored(stored: StoredSession | None) -> bool:
    """Return whether the click is in Redis: accepted now, or a repeat of a stored click.

    A repeat of a click from before a deletion is not in Redis.
    """
    return stored is not None and stored.accepted + stored.duplicates > stored.forgotten
