"""Limits of one HTTP connection that a public service needs and uvicorn lacks.

uvicorn 0.54 limits the silence between requests, but no other time and no number:

- It waits for a request without a time limit and accepts a head of any size. Here a request must
  arrive completely within `read_seconds`, and its head has a maximum size.
- It waits without a time limit for a client that does not read. Its `pause_writing` is called above
  64 kB. Here a client must read an answer of any length within `read_seconds`.
- Its `limit_concurrency` refuses requests while too many connections are open, so that silent
  connections block all others. Here only an additional connection is refused and closed.
- It queues any number of pipelined requests, and accepts a head with two Host headers.
- It accepts bodies in chunks of one byte and chunk extensions of any length.
- It drops pending answers when a client closes its side or sends invalid HTTP.
- Its parser ends a request that asks for another protocol (`Upgrade: h2c`) before the body.
- Its `timeout_graceful_shutdown` does not limit the shutdown of the application, and it logs a
  traceback for each request that it cancels.

The classes below use no private attribute. `test_http_limits.py` lists what they override and read,
and pyproject.toml has an upper bound of the version. A request that arrives in one piece, as most
do, needs no timer.
"""

import asyncio
import logging
import os
import threading
import time
from array import array
from collections.abc import Callable
from types import FrameType

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.middleware.headers import AnswerHeaders, common_headers, new_request_id
from service.problems import RETRY_AFTER_SECONDS, ProblemResponse, problem
from service.settings import Settings

MAX_PIPELINED = 16  # requests of one connection that wait for their answers
MAX_CHUNKS = 10_000  # of one body; each costs about half a microsecond
FULL_LOG_SECONDS = 60.0  # between log lines about too many connections
CLIENTS_SHARE = 0.5  # of `shutdown_seconds`, until connections are aborted
ANSWERS_SHARE = 0.75  # of `shutdown_seconds`, until answers are cancelled
log = logging.getLogger("recsys.service")


def bounded(settings: Settings, count: Callable[[int], None]) -> type[asyncio.Protocol]:
    """Return the protocol class for `uvicorn.Config(http=…)`.

    `count` receives the status of each answer that the server gives without the application.
    """
    attributes = {"bounds": settings, "count": staticmethod(count)}
    return type("Bounded", (BoundedProtocol,), attributes)


class PunctualServer(uvicorn.Server):
    """Server that ends its process within a time limit after SIGTERM, even if threads still run."""

    def __init__(self, config: uvicorn.Config, shutdown_seconds: float) -> None:
        super().__init__(config)
        self.shutdown_seconds = shutdown_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            timer = threading.Timer(self.shutdown_seconds, self.give_up)
            timer.daemon = True
            timer.start()
        super().handle_exit(sig, frame)

    def give_up(self) -> None:
        log.error(
            "The service did not stop within %s s of the signal, so it exits now.",
            self.shutdown_seconds,
        )
        os._exit(1)


class PlainParser(httptools.HttpRequestParser):
    """Parser that ignores a request for another protocol (RFC 9110, section 7.8)."""

    def __init__(self, protocol: "BoundedProtocol") -> None:
        super().__init__(protocol)
        self.plain_head = protocol.plain_head
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own

    def feed_data(self, data: "bytes | bytearray | memoryview[int] | array[int]") -> None:
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:  # the parser stopped after the head
            self.feed_data(self.plain_head() + bytes(data)[upgrade.args[0] :])


class BoundedProtocol(HttpToolsProtocol):
    """Protocol of uvicorn with limits of time, size and number."""

    bounds: Settings
    count: Callable[[int], None]
    full_logged = float("-inf")  # monotonic time of the last log line

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # call `pause_writing` at the first unsent byte
        self.parser = PlainParser(self)
        self._unanswered: list[RequestResponseCycle] = []  # without the last one
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None
        self._complete = True  # no request has arrived partly
        self._in_head = False
        self._ending = False  # pending requests are answered, and no more are read
        self._upgrade = False  # this head asks for another protocol and is parsed again
        self._piece = 0  # bytes that arrived now
        self._received = 0  # bytes of this request that arrived after the piece it began in
        self._empty_chunk = False  # a chunk has begun, and none of its data has arrived
        self._trailing = 0  # bytes that arrived since then
        self._chunks = 0  # of this body
        if len(self.connections) <= self.bounds.max_connections:
            self._start_timer()
            return
        self._log_full()
        detail = f"All {self.bounds.max_connections:,} connections are in use. Try again later."
        self._refuse(_final(503, detail, retry=True))

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._end):
            if timer is not None:
                timer.cancel()
        for cycle in self._unanswered:  # uvicorn informs only the last one
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)  # calls `resume_writing`

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer complete requests: a client may close its side after it has sent them."""
        return self._end_after_answers()

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        self._piece = len(data)
        super().data_received(data)
        self._received += self._piece
        self._trailing += self._piece
        if self._complete and self._answering():
            self._stop_timer()
            return
        excess = self._excess()
        if excess is not None:
            self._refuse(excess)
        elif self._timer is None and not (self._ending or self.transport.is_closing()):
            self._start_timer()

    def on_message_begin(self) -> None:
        self._complete, self._in_head, self._received, self._chunks = False, True, -self._piece, 0
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many pipelined requests")  # the parser stops: 400
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # after a body they are trailers, which must not act as headers
            super().on_header(name, value)

    def on_chunk_header(self) -> None:
        self._empty_chunk, self._trailing = True, -self._piece
        self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            raise ValueError("too many chunks")  # the parser stops: 413

    def on_body(self, body: bytes) -> None:
        self._empty_chunk = False
        super().on_body(body)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("not a proxy")  # the parser stops: 400
            self._upgrade = True
            return
        if self._answering():
            pending = [each for each in self._unanswered if not each.response_complete]
            self._unanswered = [*pending, self.cycle]
        refusal = self._refusal()
        if refusal is None:
            super().on_headers_complete()
        else:
            self.count(refusal.status_code)
            application, self.app = self.app, AnswerHeaders(refusal)
            super().on_headers_complete()
            self.app = application
        self._in_head = False

    def on_message_complete(self) -> None:
        if self._upgrade:
            return
        self._complete, self._empty_chunk = True, False
        super().on_message_complete()

    def plain_head(self) -> bytes:
        """Return the last head without its request for another protocol."""
        self._upgrade = False
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return b"".join(lines) + b"\r\n"

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing = self.loop.call_later(self.bounds.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def shutdown(self) -> None:
        super().shutdown()
        seconds = self.bounds.shutdown_seconds * CLIENTS_SHARE
        self._end = self.loop.call_later(seconds, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        if self._chunks > MAX_CHUNKS:
            detail = f"A body may have at most {MAX_CHUNKS:,} chunks. Send larger ones."
            self._refuse(_final(413, detail))
        else:
            self._refuse(_final(400, "The request is not valid HTTP/1.1."))

    def _excess(self) -> ProblemResponse | None:
        """Return an answer if a request, or a part of it, is longer than any valid one."""
        limit = self.bounds.max_head_bytes
        if (self._in_head and self._received > limit) or (
            self._empty_chunk and self._trailing > limit
        ):
            return self._too_large()
        limit += 2 * self.bounds.max_body_bytes  # including chunk headers
        if self._answering() and self._received > limit:
            return _final(
                413, f"A request may have at most {limit:,} bytes, chunk headers included."
            )
        return None

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refusal(self) -> ProblemResponse | None:
        """Return an answer if the head exceeds a limit."""
        bounds, headers = self.bounds, self.headers
        if len(self.url) > bounds.max_url_bytes:
            detail = f"The URL may have at most {bounds.max_url_bytes:,} bytes."
            return _final(414, detail)
        if len(headers) > bounds.max_headers:
            detail = f"A request may have at most {bounds.max_headers:,} headers."
            return _final(431, detail)
        if max(self._received, 0) + self._piece > bounds.max_head_bytes:  # else the body is long
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in headers)
            if size > bounds.max_head_bytes:
                return self._too_large()
        version = self.parser.get_http_version()
        hosts = len([name for name, _ in headers if name == b"host"])
        if version not in ("1.1", "1.0") or hosts > 1 or (hosts == 0 and version == "1.1"):
            detail = f"A request of HTTP/1.1 has one Host header. Got HTTP/{version} with {hosts}."
            return _final(400, detail)
        # the host of a whole URL could differ from the Host header
        if not (self.url.startswith(b"/") or self.url == b"*"):
            return _final(400, "A request names a path, such as /v1/model, and not a whole URL.")
        return None

    def _too_large(self) -> ProblemResponse:
        limit = self.bounds.max_head_bytes
        return _final(431, f"URL and headers may have {limit:,} bytes together.")

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.bounds.read_seconds, self._time_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        """Close or refuse, unless the client waited for this service."""
        self._timer = None
        if self.flow.read_paused or (self._in_head and self._answering()):
            self._start_timer()
        elif self._in_head or (self._answering() and not self._complete):
            detail = f"The request did not arrive completely within {self.bounds.read_seconds} s."
            self._refuse(_final(408, detail))
        else:  # no request has begun, or its answer is being sent
            self.transport.close()

    def _refuse(self, answer: ProblemResponse) -> None:
        """Write an answer without the application, and close the connection.

        If earlier requests wait for their answers, only these are sent. If the answer to this
        request has begun, nothing is written: the client would read it as a part of that answer.
        """
        if self.transport.is_closing() or self._end_after_answers():
            return
        if not (self._in_body() and self.cycle.response_started):
            self.count(answer.status_code)
            self.transport.write(self._serialize(answer))
        self.transport.close()

    def _in_body(self) -> bool:
        """Return whether the last request has arrived with its head but not completely."""
        return not (self._complete or self._in_head)

    def _end_after_answers(self) -> bool:
        """Close after the answers to complete requests; return False if none is pending."""
        last = [] if self.cycle is None or self._in_body() else [self.cycle]
        pending = [each for each in [*self._unanswered, *last] if not each.response_complete]
        if pending:
            pending[-1].keep_alive = False
            self._ending = True
            self.flow.resume_reading()  # closing a socket with unread data resets the connection
            self._stop_timer()
        return bool(pending)

    def _serialize(self, answer: ProblemResponse) -> bytes:
        """Return the bytes of an answer with the common headers."""
        request_id = new_request_id()
        response = answer.with_request_id(request_id)
        headers = [
            *self.server_state.default_headers,
            *response.raw_headers,
            *common_headers(request_id),
        ]
        lines = [b"%s: %s\r\n" % header for header in headers]
        return STATUS_LINE[response.status_code] + b"".join(lines) + b"\r\n" + bytes(response.body)

    def _log_full(self) -> None:
        """Log that all connections are in use, at most once in `FULL_LOG_SECONDS`."""
        if time.monotonic() - self.full_logged > FULL_LOG_SECONDS:
            type(self).full_logged = time.monotonic()
            limit = self.bounds.max_connections
            log.warning("All %d connections are in use; new ones are refused.", limit)


def _final(status: int, detail: str, *, retry: bool = False) -> ProblemResponse:
    """Return a problem that closes the connection; `retry` asks the client to try again."""
    headers = {"Connection": "close"}
    if retry:
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    return problem(status, detail, headers=headers)
