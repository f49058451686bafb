"""Prometheus metrics of the service.

All outcomes are counted, failures included. No label names a user or an item.
"""

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Receive, Scope, Send

from recsys.catalogue.catalogue import Catalogue
from recsys.live.overlay import OverlayCounts
from service.answer_status import AnswerStatus
from service.feedback.watch import StreamSizes
from service.redis_client.breaker import BreakerState
from service.server.workers import SHARED_METRICS

ITEMS = {True: "known", False: "unknown"}
MAX_VARIANT_LABELS = 50  # of one process; an operator may run another experiment every day
LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)


class ServiceMetrics:
    """All metrics of one application, in a registry of its own."""

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
            "Seconds until a request is answered, with any outcome.",
            ("route",),
            buckets=LATENCY,
            registry=registry,
        )
        self.batch_size = Histogram(
            "recsys_batch_size",
            "Requests in a batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self.waiting = Gauge(
            "recsys_queue_waiting",
            "Requests that waited in the queue after the last batch was taken.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.refused = Counter(
            "recsys_refused",
            "Requests refused because the queue was full or its delay too long.",
            registry=registry,
        )
        self.states = Counter(
            "recsys_states",
            "Hidden states by origin: hit (stored), step (stored, then advanced), replay (from the "
            "click history), blank (no known item was clicked), stateless (from the request).",
            ("how",),
            registry=registry,
        )
        self.answers = Counter(
            "recsys_answers",
            "Recommendations by source, and whether the session could not be read (degraded).",
            ("source", "degraded"),
            registry=registry,
        )
        self.states_kept = Counter(
            "recsys_states_kept",
            "States written to Redis (kept), or not because the session had changed (outdated).",
            ("outcome",),
            registry=registry,
        )
        self.clicks_not_stored = Counter(
            "recsys_clicks_not_stored",
            "Clicks that are not in Redis, by reason: oom, readonly, misconf, noreplicas (Redis "
            "refuses writes), feedback (too much feedback is not collected), unavailable (no "
            "answer), damaged (the key holds no session), forgotten (a repeat from before a "
            "DELETE).",
            ("reason",),
            registry=registry,
        )
        self.clicks = Counter(
            "recsys_clicks",
            "Clicks stored in Redis, by their item: known to the current model, or unknown.",
            ("item",),
            registry=registry,
        )
        self._clicks = {known: self.clicks.labels(item) for known, item in ITEMS.items()}
        self.unknown_event_types = Counter(
            "recsys_unknown_event_types",
            "New clicks whose event type the model does not know.",
            registry=registry,
        )
        self.trending_clicks = Counter(
            "recsys_trending_clicks",
            "Clicks counted as trending: counted (in Redis), lost (Redis did not answer, or there "
            "were too many items).",
            ("outcome",),
            registry=registry,
        )
        self.impressions = Counter(
            "recsys_impressions",
            "Lists with an id: logged (in a feedback stream), or lost because the stream was full, "
            "too many were waiting in the process, the session had ended, or Redis was unavailable "
            "(they may be logged).",
            ("outcome",),
            registry=registry,
        )
        self.feedback_entries = Gauge(
            "recsys_feedback_entries",
            "Entries of the feedback streams that are not collected yet.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.feedback_bytes = Gauge(
            "recsys_feedback_bytes",
            "Bytes of the feedback streams in Redis.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.feedback_fullest = Gauge(
            "recsys_feedback_fullest_ratio",
            "Share of its limit that the fullest feedback stream has reached: lists are not logged "
            "above 0.75, clicks not stored above 1.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.feedback_oldest = Gauge(
            "recsys_feedback_oldest_seconds",
            "Age of the oldest entry of the feedback streams: the lag of the collection.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.trending_counters = Gauge(
            "recsys_trending_counters",
            "Items with trending clicks, as last read from Redis.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.redis_seconds = Histogram(
            "recsys_redis_seconds",
            "Seconds of one Redis round trip, by call and outcome.",
            ("call", "outcome"),
            buckets=LATENCY,
            registry=registry,
        )
        # `labels` takes a lock, and more time than the increment itself
        self._redis = cache(self.redis_seconds.labels)
        self._states = cache(self.states.labels)
        self._answers = cache(self.answers.labels)
        self._states_kept = cache(self.states_kept.labels)
        self._impressions = cache(self.impressions.labels)
        self.redis_servers = Gauge(
            "recsys_redis_servers",
            "Redis servers by state of their circuit breaker: closed (in use), open (not called "
            "for a moment, after failures in a row), half-open (one trial request).",
            ("circuit",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.reloads = Counter(
            "recsys_reloads",
            "Requests to serve another bundle: replaced (it is served), refused.",
            ("outcome",),
            registry=registry,
        )
        self.model = Gauge(
            "recsys_model_info",
            "1 for a model that is served.",
            ("model_id",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._models: set[str] = set()  # ids whose gauge is 1
        self.variant_answers = Counter(
            "recsys_variant_answers",
            "Recommendations while an experiment runs, by variant and source, or failed. The label "
            f"of a variant is the name of its bundle; after {MAX_VARIANT_LABELS} names, other.",
            ("variant", "source"),
            registry=registry,
        )
        self.variant_seconds = Histogram(
            "recsys_variant_seconds",
            "Seconds in which the part of a batch of one variant was answered, Redis included.",
            ("variant",),
            buckets=LATENCY,
            registry=registry,
        )
        self.variant_share = Gauge(
            "recsys_variant_share",
            "Percent of the users that a variant answers; 0 once it is not served any more.",
            ("variant",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._variant_labels: set[str] = set()
        self.catalogue_changes = Counter(
            "recsys_catalogue_changes",
            "Items in calls that change the live catalogue: changed, unchanged (they were so "
            "already), refused.",
            ("outcome",),
            registry=registry,
        )
        self.catalogue_items = Gauge(
            "recsys_catalogue_items",
            "Items of the live catalogue: changed (attributes of items of the bundle), "
            "unavailable, placed (new items with a vector), not_placed (new items without one).",
            ("kind",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.spans = Counter(
            "recsys_spans",
            "Spans of tracing: exported, failed (the receiver did not take them), dropped (too "
            "many waited for it).",
            ("outcome",),
            registry=registry,
        )
        self.catalogue_age = Gauge(
            "recsys_catalogue_age_seconds",
            "Seconds since the live catalogue was last read from Redis.",
            registry=registry,
            multiprocess_mode="livemax",
        )

    def exposition(self) -> bytes:
        """Return the metrics of all workers together in Prometheus' text format."""
        if SHARED_METRICS not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def count_spans(self, outcome: str, spans: int) -> None:
        """Count spans that were sent to the receiver, or lost."""
        self.spans.labels(outcome).inc(spans)

    def count_unstored(self, reason: str, clicks: int) -> None:
        """Count clicks that are not in Redis."""
        self.clicks_not_stored.labels(reason).inc(clicks)

    def count_clicks(self, item_ids: Sequence[str], catalogue: Catalogue) -> None:
        """Count clicks that are now in Redis; catalogue: the items that the model knows."""
        for item_id in item_ids:
            self._clicks[catalogue.find(item_id) is not None].inc()

    def count_trending(self, outcome: str, clicks: int) -> None:
        """Count clicks that were added to the counters, or lost."""
        self.trending_clicks.labels(outcome).inc(clicks)

    def count_impressions(self, outcome: str, lists: int) -> None:
        """Count lists that were logged, or lost."""
        self._impressions(outcome).inc(lists)

    def set_feedback(self, sizes: StreamSizes) -> None:
        """Set the sizes of the feedback streams."""
        self.feedback_entries.set(sizes.entries)
        self.feedback_bytes.set(sizes.stream_bytes)
        self.feedback_fullest.set(sizes.fullest)
        self.feedback_oldest.set(sizes.oldest_seconds)

    def count_refused(self, status: int) -> None:
        """Count an answer to a request that was refused before the application read it."""
        self.requests.labels("unmatched", "other", str(status)).inc()

    def observe_redis(self, call: str, seconds: float, outcome: str) -> None:
        """Record a round trip."""
        self._redis(call, outcome).observe(seconds)

    def count_states(self, counts: Mapping[str, int]) -> None:
        """Count states; counts: origin → number."""
        for origin, count in counts.items():
            self._states(origin).inc(count)

    def count_answers(self, counts: Mapping[tuple[str, bool], int]) -> None:
        """Count recommendations; counts: (source, degraded) → number."""
        for (source, degraded), count in counts.items():
            self._answers(source, str(degraded).lower()).inc(count)

    def set_models(self, model_ids: Collection[str]) -> None:
        """Set which models are served."""
        for model_id in self._models.difference(model_ids):
            self.model.labels(model_id).set(0)
        for model_id in model_ids:
            self.model.labels(model_id).set(1)
        self._models = set(model_ids)

    def count_variant(self, variant: str, outcomes: Mapping[str, int], seconds: float) -> None:
        """Count the answers of a variant in one batch; outcomes: source or failed → number."""
        label = self._variant_label(variant)
        for outcome, count in outcomes.items():
            self.variant_answers.labels(label, outcome).inc(count)
        self.variant_seconds.labels(label).observe(seconds)

    def set_shares(self, shares: Mapping[str, float]) -> None:
        """Set the percent of the users of each variant, the main version included."""
        for label in list(self._variant_labels):
            self.variant_share.labels(label).set(0)
        for variant, share in shares.items():
            self.variant_share.labels(self._variant_label(variant)).set(share)

    def _variant_label(self, variant: str) -> str:
        """Return the label of a variant; an unbounded number of labels would fill the memory."""
        if len(self._variant_labels) < MAX_VARIANT_LABELS:
            self._variant_labels.add(variant)
        return variant if variant in self._variant_labels else "other"

    def count_kept(self, kept: int, outdated: int) -> None:
        """Count states that were written to Redis, and those that were not."""
        self._states_kept("kept").inc(kept)
        self._states_kept("outdated").inc(outdated)

    def count_changes(self, changed: int, unchanged: int, refused: int) -> None:
        """Count the items of a call that changes the live catalogue."""
        counts = {"changed": changed, "unchanged": unchanged, "refused": refused}
        for outcome, items in counts.items():
            self.catalogue_changes.labels(outcome).inc(items)

    def set_catalogue(self, counts: OverlayCounts) -> None:
        """Set the sizes of the live catalogue."""
        for kind, items in asdict(counts).items():
            self.catalogue_items.labels(kind).set(items)

    def count_breaker_state(self, before: BreakerState | None, after: BreakerState | None) -> None:
        """Count a server in its new state; None: the server is new, or no longer in use."""
        if before is not None:
            self.redis_servers.labels(before.value).dec()
        if after is not None:
            self.redis_servers.labels(after.value).inc()


class RequestMetrics:
    """ASGI middleware that counts and times every request, by the template of its route."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self._app = app
        self._requests = cache(metrics.requests.labels)  # see ServiceMetrics
        self._seconds = cache(metrics.request_seconds.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, answer = time.perf_counter(), AnswerStatus(send)
        try:
            await self._app(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._requests(route, _method(scope), str(answer.status)).inc()
            self._seconds(route).observe(time.perf_counter() - began)


def _method(scope: Scope) -> str:
    """Return the method as a label: a client may send any word as its method."""
    method: str = scope["method"]
    return method if method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT") else "other"
