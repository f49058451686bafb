"""Tracing of one process: its spans, their export, and the parts of the service that it wraps.

The spans are our own, by the public API of OpenTelemetry. The ones of FastAPI, of Starlette and of
the instrumentation packages hold paths, queries, addresses and commands of Redis, and those hold
the ids of users.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from starlette.types import ASGIApp

from recsys import __version__
from service.recommendation.recommender import Step
from service.redis_client.client import Observe
from service.tracing.batches import Handle, TracedBatcher
from service.tracing.export import BoundedQueue, CountSpans, check, queue_sizes, resource
from service.tracing.requests import RequestSpans
from service.tracing.spans import Spans

log = logging.getLogger("recsys.service")


class Tracing:
    """Spans of this process and their export. Make it after a fork: it starts a thread.

    Args:
        count: called with the outcome of spans and their number, also by the thread.
        environment: the variables that are checked here; the SDK reads all others itself.
    """

    def __init__(self, count: CountSpans, environment: Mapping[str, str] = os.environ) -> None:
        check(environment)
        # its lines would come with each attempt; `CountedExporter` logs what changes
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._queue = BoundedQueue(OTLPSpanExporter(), count, *queue_sizes(environment))
        self._provider = TracerProvider(resource=resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(self._queue)
        self._spans = Spans(self._provider.get_tracer("recsys", __version__))
        self.step: Step = self._spans.step

    def requests(self, app: ASGIApp) -> ASGIApp:
        """Return the application, whose requests are traced."""
        return RequestSpans(app, self._spans)

    def batcher(self, handle: Handle, **options: Any) -> TracedBatcher:
        """Return a batcher, whose batches are traced."""
        return TracedBatcher(handle, spans=self._spans, **options)

    def redis_calls(self, observe: Observe) -> Observe:
        """Return `observe` for calls of Redis, which are traced."""

        def trace_and_observe(name: str, seconds: float, outcome: str) -> None:
            self._spans.redis_call(name, seconds, outcome)
            observe(name, seconds, outcome)

        return trace_and_observe

    async def stop(self, seconds: float) -> None:
        """Send the spans that wait, for at most so many seconds."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(sent.set)

        # a daemon, unlike a thread of an executor, does not keep the process from its end
        threading.Thread(target=shut_down, name="last spans", daemon=True).start()
        try:
            await asyncio.wait_for(sent.wait(), seconds)
        except TimeoutError:
            log.warning("The OTLP receiver did not take the last spans within %g s.", seconds)
            self._queue.abandon()
