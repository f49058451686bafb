"""Spans of one process: each is a child of the request that it belongs to.

A batch serves several requests. Each request that is traced gets spans of its own for the batch and
for what happens in it, so that its trace is complete. No attribute has an id, a path or a key.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context

Attributes = Mapping[str, str | int]
# Requests or batches that the running code works for. A task that code starts inherits them, and
# may go on when they have ended.
PARENTS: ContextVar[tuple[Span, ...]] = ContextVar("parent_spans", default=())


class Spans:
    """Source of spans."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def parents(self) -> tuple[Span, ...]:
        """Return the traced requests or batches that the running code works for."""
        parents = PARENTS.get()
        return tuple(span for span in parents if span.is_recording()) if parents else ()

    @contextmanager
    def step(self, name: str, attributes: Attributes | None = None) -> Iterator[None]:
        """Trace the block as a part of each parent."""
        parents = self.parents()
        if not parents:
            yield
            return
        with self.step_of(parents, name, attributes):
            yield

    @contextmanager
    def step_of(
        self, parents: tuple[Span, ...], name: str, attributes: Attributes | None = None
    ) -> Iterator[None]:
        """Trace the block as a part of each of these parents."""
        spans = tuple(
            self.tracer.start_span(name, child_of(parent), attributes=attributes)
            for parent in parents
        )
        token = PARENTS.set(spans)
        try:
            yield
        except BaseException as error:  # the message may hold an id
            for span in spans:
                fail(span, type(error).__qualname__)
            raise
        finally:
            PARENTS.reset(token)
            for span in spans:
                span.end()

    def redis_call(self, name: str, seconds: float, outcome: str) -> None:
        """Add a call of Redis that has just ended; the arguments are those of `Observe`."""
        end = time.time_ns()
        for parent in self.parents():
            span = self.tracer.start_span(
                f"redis {name}",
                child_of(parent),
                SpanKind.CLIENT,
                {"db.system.name": "redis", "db.operation.name": name},
                start_time=end - int(seconds * 1e9),
            )
            if outcome != "ok":
                fail(span, outcome)
            span.end(end)


def child_of(parent: Span) -> Context:
    """Return the context that makes a new span a child of this one."""
    return set_span_in_context(parent, Context())


def fail(span: Span, error_type: str) -> None:
    """Mark a span as failed, with the kind of the error and without its message."""
    span.set_attribute("error.type", error_type)
    span.set_status(StatusCode.ERROR)
