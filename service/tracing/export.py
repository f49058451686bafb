"""Export of spans to an OTLP receiver, configured by the standard variables OTEL_….

Spans wait in a bounded queue for a thread that sends them. A receiver that is slow or away thus
never delays an answer: spans that find the queue full are dropped and counted.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from recsys import __version__
from recsys.errors import BadInput

QUEUE_SIZE, BATCH_SIZE = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
DEFAULTS = {QUEUE_SIZE: 2048, BATCH_SIZE: 512}  # of the specification of OpenTelemetry
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
NUMBERS = (*DEFAULTS, "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT")
SAMPLER, SAMPLER_ARG = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
SHARE = "traceidratio"  # of SAMPLER_ARG
ROOT_SAMPLERS = ("always_on", "always_off", SHARE)
SAMPLERS = (*ROOT_SAMPLERS, *(f"parentbased_{name}" for name in ROOT_SAMPLERS))
CountSpans = Callable[[str, int], None]  # (exported, failed or dropped; number)
log = logging.getLogger("recsys.service")


class CountedExporter(SpanExporter):
    """Exporter that counts the spans of another one, and logs when the receiver fails or is back.

    Args:
        exporter: sends spans.
        count: called with the outcome and the number of spans.
    """

    def __init__(self, exporter: SpanExporter, count: CountSpans) -> None:
        self._exporter, self._count = exporter, count
        self.taken = 0  # spans that have left the queue
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; called by one thread."""
        self.taken += len(spans)
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        self._count("failed" if failed else "exported", len(spans))
        if failed and not self._failing:
            log.warning("The OTLP receiver does not take spans. They are dropped until it does.")
        elif self._failing and not failed:
            log.warning("The OTLP receiver takes spans again.")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Send no more spans, and end the attempts that are under way."""
        self._exporter.shutdown()


class BoundedQueue(SpanProcessor):
    """Queue in front of an exporter that counts the spans it drops, which the SDK's does not.

    Args:
        exporter: sends spans.
        count: called with the outcome and the number of spans.
        max_spans: maximum number of waiting spans.
        batch_size: maximum number of spans that are sent together.
    """

    def __init__(
        self, exporter: SpanExporter, count: CountSpans, max_spans: int, batch_size: int
    ) -> None:
        self._counted = CountedExporter(exporter, count)
        self._max_spans, self._count = max_spans, count
        self._queued = 0  # written by the event loop, as `taken` is by the thread: no lock
        self._processor = BatchSpanProcessor(
            self._counted,
            max_queue_size=max_spans,
            max_export_batch_size=min(batch_size, max_spans),
        )

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span or drop it."""
        if self._queued - self._counted.taken >= self._max_spans:
            self._count("dropped", 1)
            return
        self._queued += 1
        self._processor.on_end(span)

    def shutdown(self) -> None:
        """Send the spans that wait; wait for the receiver for at most half a minute."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send the spans that wait."""
        return self._processor.force_flush(timeout_millis)

    def abandon(self) -> None:
        """Stop waiting for the receiver."""
        self._counted.shutdown()


def queue_sizes(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return how many spans may wait, and how many are sent together."""

    def number(name: str) -> int:
        return int(environment.get(name) or DEFAULTS[name])

    return number(QUEUE_SIZE), number(BATCH_SIZE)


def check(environment: Mapping[str, str]) -> None:
    """Check what the SDK would accept and then not use; raise `BadInput` with all problems."""
    problems = []
    for name in PROTOCOLS:
        if environment.get(name, "") not in ("", "http/protobuf"):
            problems.append(f"{name} must be http/protobuf; got {environment[name]!r}.")
    for name in ENDPOINTS:
        if environment.get(name) and not _is_url(environment[name]):
            problems.append(f"{name} must be a URL such as http://collector:4318.")
    for name in NUMBERS:
        if not re.fullmatch("[1-9][0-9]{0,8}", environment.get(name) or "1", re.ASCII):
            problems.append(f"{name} must be a number above 0; got {environment[name]!r}.")
    problems += _sampler_problems(environment)
    if problems:
        raise BadInput("Spans cannot be exported", problems)


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # half an IPv6 address, or a port above 65535
        return False


def _sampler_problems(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong with the sampler: the SDK would then trace every request."""
    sampler, share = (environment.get(name, "") for name in (SAMPLER, SAMPLER_ARG))
    if sampler and sampler.lower() not in SAMPLERS:
        yield f"{SAMPLER} must be one of {', '.join(SAMPLERS)}; got {sampler!r}."
    if share and sampler.lower().endswith(SHARE) and not _is_share(share):
        yield f"{SAMPLER_ARG} must be a number from 0 to 1; got {share!r}."


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def resource() -> Resource:
    """Return the attributes of this process; OTEL_SERVICE_NAME and others override them."""
    own = Resource.create()
    if str(own.attributes[SERVICE_NAME]).startswith("unknown_service"):
        own = own.merge(Resource({SERVICE_NAME: "session-recsys"}))
    return Resource({"service.version": __version__}).merge(own)
