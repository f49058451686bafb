"""Span of each request of the API, by the template of its route."""

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer, format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Receive, Scope, Send

from service.answer_status import AnswerStatus
from service.logs import REQUEST_FIELDS
from service.tracing.spans import PARENTS, Spans, fail

API = "/v1/"  # probes, metrics and pages have no spans
TRACEPARENT = b"traceparent"


class RequestSpans:
    """ASGI middleware that traces requests and gives their trace id to log lines.

    A request with a valid `traceparent` continues that trace. `tracestate` and `baggage` are not
    read: they hold any text, which would be sent on with each span.
    """

    def __init__(self, app: ASGIApp, spans: Spans) -> None:
        self._app = app
        self._tracer: Tracer = spans.tracer
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        PARENTS.set(())  # those of an earlier request whose task started this one
        if scope["type"] != "http" or not scope["path"].startswith(API):
            await self._app(scope, receive, send)
            return
        span = self._tracer.start_span("request", self._parent_of(scope), SpanKind.SERVER)
        context = span.get_span_context()
        if context.is_valid:  # it is not where OTEL_SDK_DISABLED is true
            REQUEST_FIELDS.set(
                {
                    **(REQUEST_FIELDS.get() or {}),
                    "trace_id": format_trace_id(context.trace_id),
                    "span_id": format_span_id(context.span_id),
                }
            )
        if span.is_recording():
            PARENTS.set((span,))
            await self._traced(span, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _traced(self, span: Span, scope: Scope, receive: Receive, send: Send) -> None:
        answer = AnswerStatus(send)
        try:
            await self._app(scope, receive, answer)
        finally:
            method = scope["method"]
            route = getattr(scope.get("route"), "path", None)
            span.set_attribute("http.request.method", method)
            span.set_attribute("http.response.status_code", answer.status)
            if route is not None:
                span.set_attribute("http.route", route)
            span.update_name(f"{method} {route}" if route else method)
            if answer.status >= 500:
                fail(span, str(answer.status))
            span.end()

    def _parent_of(self, scope: Scope) -> Context:
        """Return the context of the caller's span; an empty one if the request names none."""
        values = [value for name, value in scope["headers"] if name == TRACEPARENT]
        if len(values) != 1:
            return Context()
        carrier = {"traceparent": values[0].decode("latin-1")}
        return self._propagator.extract(carrier, Context())
