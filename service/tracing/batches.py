"""Batcher whose batches are traced, as a part of each request that is traced."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from opentelemetry.trace import Span

from service.batcher import Batcher
from service.recommendation.queries import RecommendationQuery, RecommendationResult
from service.tracing.spans import Spans

Handle = Callable[
    [Sequence[RecommendationQuery]], Awaitable[Sequence[RecommendationResult | Exception]]
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedQuery(RecommendationQuery):
    """Query of a request that is traced."""

    request: Span

    @classmethod
    def of(cls, query: RecommendationQuery, request: Span) -> "TracedQuery":
        """Return the query with the span of its request."""
        values = {field.name: getattr(query, field.name) for field in fields(query)}
        return cls(**values, request=request)


class TracedBatcher(Batcher[RecommendationQuery, RecommendationResult]):
    """Batcher of queries; see `Batcher` for the options."""

    def __init__(self, handle: Handle, *, spans: Spans, **options: Any) -> None:
        super().__init__(self._traced, **options)
        self._handle_untraced = handle
        self._spans = spans

    def submit_all(self, queries: Sequence[RecommendationQuery]) -> "list[Any]":
        """Queue queries as `Batcher` does, with the span of their request if it is traced."""
        for parent in self._spans.parents():
            queries = [TracedQuery.of(query, parent) for query in queries]
        return super().submit_all(queries)

    async def _traced(
        self, queries: Sequence[RecommendationQuery]
    ) -> Sequence[RecommendationResult | Exception]:
        requests = dict.fromkeys(q.request for q in queries if isinstance(q, TracedQuery))
        if not requests:
            return await self._handle_untraced(queries)
        size = {"recsys.batch.size": len(queries)}
        with self._spans.step_of(tuple(requests), "batch", size):
            return await self._handle_untraced(queries)
