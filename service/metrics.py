"""What Prometheus sees: all outcomes are counted, failures too; no label names a user or item."""

import os
import time
from collections.abc import Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.redis_client.breaker import State
from service.server.workers import SHARED_METRICS

LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)


class ServiceMetrics:
    """All series of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "recsys_requests",
            "HTTP requests by route, method and status.",
            ("route", "method", "status"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "recsys_request_seconds",
            "Time to answer, whatever the outcome.",
            ("route",),
            buckets=LATENCY,
            registry=registry,
        )
        self.batch_size = Histogram(
            "recsys_batch_size",
            "Requests scored together.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self.waiting = Gauge(
            "recsys_queue_waiting",
            "Requests left in the queue when the last batch was taken.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.refused = Counter(
            "recsys_refused",
            "Requests refused because the queue was full or slow.",
            registry=registry,
        )
        self.states = Counter(
            "recsys_states",
            "How a state was had: hit (cached), step (cached, then stepped), replay (from the "
            "history), blank (nothing known was clicked), stateless (from the request).",
            ("how",),
            registry=registry,
        )
        self.answers = Counter(
            "recsys_answers",
            "Recommendations by source, and whether the session was missing.",
            ("source", "degraded"),
            registry=registry,
        )
        self.states_kept = Counter(
            "recsys_states_kept",
            "States written back, and those that no longer fitted.",
            ("outcome",),
            registry=registry,
        )
        self.clicks_not_stored = Counter(
            "recsys_clicks_not_stored",
            "Clicks that are not in Redis, by reason: oom, readonly, misconf, noreplicas (Redis "
            "refuses writes), unavailable (no answer), damaged (the key holds no session), "
            "forgotten (a repeat from before a DELETE).",
            ("reason",),
            registry=registry,
        )
        self.redis_seconds = Histogram(
            "recsys_redis_seconds",
            "Time of one Redis round trip, whatever the outcome.",
            ("call", "outcome"),
            buckets=LATENCY,
            registry=registry,
        )
        # a lookup by prometheus takes a lock, and more time than all else
        self._redis = cache(self.redis_seconds.labels)
        self._states = cache(self.states.labels)
        self._answers = cache(self.answers.labels)
        self._states_kept = cache(self.states_kept.labels)
        self.redis_servers = Gauge(
            "recsys_redis_servers",
            "Redis servers by circuit: closed (asked), open (left alone for a moment, after "
            "failures in a row), half-open (one request tries it).",
            ("circuit",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.reloads = Counter(
            "recsys_reloads",
            "Bundles that were to be served from then on: replaced (the one before), refused.",
            ("outcome",),
            registry=registry,
        )
        self.model = Gauge(
            "recsys_model_info",
            "1 for the model that answers.",
            ("model_id",),
            registry=registry,
            multiprocess_mode="livemax",
        )

    def exposition(self) -> bytes:
        """Prometheus text format, of all workers together."""
        if SHARED_METRICS not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def count_unstored(self, reason: str, clicks: int) -> None:
        self.clicks_not_stored.labels(reason).inc(clicks)

    def count_refused(self, status: int) -> None:
        """An answer that no application gave, as the request was not read."""
        self.requests.labels("unmatched", "other", str(status)).inc()

    def observe_redis(self, call: str, seconds: float, outcome: str) -> None:
        self._redis(call, outcome).observe(seconds)

    def count_states(self, counts: Mapping[str, int]) -> None:
        """How states were had → how many of them."""
        for how, count in counts.items():
            self._states(how).inc(count)

    def count_answers(self, counts: Mapping[tuple[str, bool], int]) -> None:
        """(source, degraded) → how many."""
        for (source, degraded), count in counts.items():
            self._answers(source, str(degraded).lower()).inc(count)

    def count_kept(self, kept: int, outdated: int) -> None:
        self._states_kept("kept").inc(kept)
        self._states_kept("outdated").inc(outdated)

    def redis_moved(self, before: State | None, after: State | None) -> None:
        """A server came (from None), went (to None), or its circuit changed."""
        if before is not None:
            self.redis_servers.labels(before.value).dec()
        if after is not None:
            self.redis_servers.labels(after.value).inc()


class RequestMetrics:
    """ASGI middleware: counts and times every request by the route's template."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self._app = app
        self._requests = cache(metrics.requests.labels)  # here, too
        self._seconds = cache(metrics.request_seconds.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500  # what a crash below us is answered with

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._requests(route, _method(scope), str(status)).inc()
            self._seconds(route).observe(time.perf_counter() - began)


def _method(scope: Scope) -> str:
    """A client may send any word as its method; a label may not."""
    method: str = scope["method"]
    return method if method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT") else "other"
