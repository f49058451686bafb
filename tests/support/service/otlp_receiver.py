"""Receiver of spans in this process: an HTTP server that reads OTLP as a collector does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class OtlpReceiver:
    """Spans that arrived, and all bytes of their requests.

    It answers with `status`, and only while `answers` is set.
    """

    def __init__(self) -> None:
        self.status = 200
        self.answers = threading.Event()
        self.answers.set()
        self.url = ""
        self.bytes = b""
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def spans(self) -> list[Span]:
        """Return all spans."""
        of_scopes = [
            s for r in self.requests for each in r.resource_spans for s in each.scope_spans
        ]
        return [span for of_scope in of_scopes for span in of_scope.spans]

    @property
    def resources(self) -> list[dict[str, Any]]:
        """Return the attributes of the process that sent each request."""
        return [attributes_of(each.resource) for r in self.requests for each in r.resource_spans]

    def children(self, parent: Span) -> list[Span]:
        """Return the children of a span."""
        return [span for span in self.spans if span.parent_span_id == parent.span_id]

    def take(self, path: str, headers: str, body: bytes) -> None:
        """Take one request."""
        self.bytes += path.encode() + headers.encode() + body
        self.requests.append(ExportTraceServiceRequest.FromString(body))


def attributes_of(holder: Any) -> dict[str, Any]:
    """Return the attributes of a span or a resource."""
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes
    }


@contextmanager
def receiving() -> Iterator[OtlpReceiver]:
    """Run a receiver."""
    receiver = OtlpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.answers.wait()
            if receiver.status == 200:
                receiver.take(self.path, str(self.headers), body)
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.answers.set()
        server.shutdown()
        thread.join()
        server.server_close()
