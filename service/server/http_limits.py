"""The limits that uvicorn lacks and a service in front of the public needs, for one connection.

uvicorn 0.54 bounds silence between requests, and nothing else in time or number:

- It waits for a request as long as it takes, and for as much of it as comes. Here a request has
  `read_seconds` to arrive whole, and its head a size.
- It waits as long for a client that does not read. Its `pause_writing` fires above 64 kB; here a
  client has `read_seconds` to take an answer of any length.
- Its `limit_concurrency` refuses requests while so many connections are open, so that connections
  which say nothing shut all others out. Here one connection too many is told so and closed.
- It queues requests that are sent ahead without end, and reads a head with two Host headers.
- It reads a body in chunks of one byte each, and what is written beside their sizes without end.
- It drops the answers that are due when a client ends its side, or sends what is not HTTP.
- Its parser ends a request that asks for another protocol (`Upgrade: h2c`) before the body.
- Its `timeout_graceful_shutdown` does not bound the end of the application, and it logs a traceback
  for each request that it cancels.

The classes below use no private attribute. What they override and read is listed in
`test_service_wire.py`, and pyproject.toml has an upper bound of the version.

A request that came in one piece, as most do, costs no timer.
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

from service.middleware.headers import AnswerHeaders, added, new_request_id
from service.problems import RETRY_AFTER_SECONDS, ProblemAnswer, problem
from service.settings import Settings

MOST_AHEAD = 16  # requests sent on one connection without waiting for answers
MOST_CHUNKS = 10_000  # of one body; each costs about half a microsecond
SAY_AGAIN_SECONDS = 60.0
CLIENTS_SHARE = 0.5  # of the time to stop, until connections are cut off
ANSWERS_SHARE = 0.75  # until answers are given up; the rest is for the end of the application
log = logging.getLogger("recsys.service")


def bounded(settings: Settings, count: Callable[[int], None]) -> type[asyncio.Protocol]:
    """The protocol for `uvicorn.Config(http=…)`.

    count: told the status of each answer that no application gives.
    """
    named = {"bounds": settings, "count": staticmethod(count)}
    return type("Bounded", (BoundedProtocol,), named)


class PunctualServer(uvicorn.Server):
    """End the process in time after SIGTERM, whatever clients, Redis or threads do."""

    def __init__(self, config: uvicorn.Config, shutdown_seconds: float) -> None:
        super().__init__(config)
        self.shutdown_seconds = shutdown_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            last = threading.Timer(self.shutdown_seconds, self.give_up)
            last.daemon = True
            last.start()
        super().handle_exit(sig, frame)

    def give_up(self) -> None:
        log.error("Not all work ended within %s s of the signal: exit now.", self.shutdown_seconds)
        os._exit(1)


class PlainParser(httptools.HttpRequestParser):
    """Read a request that asks for another protocol as one that does not (RFC 9110, 7.8)."""

    def __init__(self, protocol: "BoundedProtocol") -> None:
        super().__init__(protocol)
        self.plain_head = protocol.plain_head
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own

    def feed_data(self, data: "bytes | bytearray | memoryview[int] | array[int]") -> None:
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as asked:  # it stopped behind the head
            self.feed_data(self.plain_head() + bytes(data)[asked.args[0] :])


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on time, size and number."""

    bounds: Settings
    count: Callable[[int], None]
    said_full = float("-inf")  # when the log last said so

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # `pause_writing` at the first byte left over
        self.parser = PlainParser(self)
        self._unanswered: list[RequestResponseCycle] = []  # those before the last
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None
        self._whole = True  # no request has come in part
        self._in_head = False
        self._ending = False  # what is due is answered, and nothing more is read
        self._upgrade = False  # this head asks for another protocol, and is read once more
        self._piece = 0  # bytes that came just now
        self._taken = 0  # bytes of this request that came before, the piece it began in left out
        self._bare = False  # a chunk has begun and nothing of it has come: the last, or nearly
        self._trailing = 0  # bytes that came since
        self._chunks = 0  # of this body
        if len(self.connections) <= self.bounds.max_connections:
            self._start_clock()
            return
        self._say_full()
        detail = f"All {self.bounds.max_connections:,} connections are in use. Try again."
        self._refuse(_last(503, detail, retry=True))

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._end):
            if timer is not None:
                timer.cancel()
        for cycle in self._unanswered:  # uvicorn tells the last one only
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)  # it says `resume_writing`

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what came whole: a client may end its side once it has sent all."""
        return self._end_after_answers()

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        self._piece = len(data)
        super().data_received(data)
        self._taken += self._piece
        self._trailing += self._piece
        if self._whole and self._answering():
            self._stop_clock()
            return
        endless = self._endless()
        if endless is not None:
            self._refuse(endless)
        elif self._timer is None and not (self._ending or self.transport.is_closing()):
            self._start_clock()

    def on_message_begin(self) -> None:
        self._whole, self._in_head, self._taken, self._chunks = False, True, -self._piece, 0
        if len(self.pipeline) >= MOST_AHEAD:
            raise ValueError("too many requests ahead")  # the parser stops, and 400 it is
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # behind a body they are trailers, which nobody may take for headers
            super().on_header(name, value)

    def on_chunk_header(self) -> None:
        self._bare, self._trailing = True, -self._piece
        self._chunks += 1
        if self._chunks > MOST_CHUNKS:
            raise ValueError("too many chunks")  # the parser stops, and 413 it is

    def on_body(self, body: bytes) -> None:
        self._bare = False
        super().on_body(body)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("this is no proxy")  # the parser stops, and 400 it is
            self._upgrade = True
            return
        if self._answering():
            ahead = [each for each in self._unanswered if not each.response_complete]
            self._unanswered = [*ahead, self.cycle]
        refusal = self._refusal()
        if refusal is None:
            super().on_headers_complete()
        else:
            self.count(refusal.status_code)
            ours, self.app = self.app, AnswerHeaders(refusal)
            super().on_headers_complete()
            self.app = ours
        self._in_head = False

    def on_message_complete(self) -> None:
        if self._upgrade:
            return
        self._whole, self._bare = True, False
        super().on_message_complete()

    def plain_head(self) -> bytes:
        """The head that just came, without what asks for another protocol."""
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
        if self._chunks > MOST_CHUNKS:
            detail = f"A body may have at most {MOST_CHUNKS:,} chunks. Send larger ones."
            self._refuse(_last(413, detail))
        else:
            self._refuse(_last(400, "What came is not HTTP/1.1."))

    def _endless(self) -> ProblemAnswer | None:
        """The answer where more has come of a request, or of a part of it, than any needs."""
        most = self.bounds.max_head_bytes
        if (self._in_head and self._taken > most) or (self._bare and self._trailing > most):
            return self._too_large()
        most += 2 * self.bounds.max_body_bytes  # with what stands around chunks
        if self._answering() and self._taken > most:
            return _last(413, f"A request may have at most {most:,} bytes, chunk headers included.")
        return None

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refusal(self) -> ProblemAnswer | None:
        """The answer to a head that is beyond the bounds."""
        bounds, headers = self.bounds, self.headers
        if len(self.url) > bounds.max_url_bytes:
            detail = f"The URL may have at most {bounds.max_url_bytes:,} bytes."
            return _last(414, detail)
        if len(headers) > bounds.max_headers:
            detail = f"A request may have at most {bounds.max_headers:,} headers."
            return _last(431, detail)
        if max(self._taken, 0) + self._piece > bounds.max_head_bytes:  # or it is only the body
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in headers)
            if size > bounds.max_head_bytes:
                return self._too_large()
        version = self.parser.get_http_version()
        hosts = len([name for name, _ in headers if name == b"host"])
        if version not in ("1.1", "1.0") or hosts > 1 or (hosts == 0 and version == "1.1"):
            detail = f"A request of HTTP/1.1 has one Host header. Got HTTP/{version} with {hosts}."
            return _last(400, detail)
        if not (
            self.url.startswith(b"/") or self.url == b"*"
        ):  # its host could be another than the Host header's
            return _last(400, "A request names a path, such as /v1/model, and not a whole URL.")
        return None

    def _too_large(self) -> ProblemAnswer:
        most = self.bounds.max_head_bytes
        return _last(431, f"URL and headers may have {most:,} bytes together.")

    def _start_clock(self) -> None:
        self._timer = self.loop.call_later(self.bounds.read_seconds, self._late)

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        """The time is over, unless it was we who let the client wait."""
        self._timer = None
        if self.flow.read_paused or (self._in_head and self._answering()):
            self._start_clock()
        elif self._in_head or (self._answering() and not self._whole):
            detail = f"The request did not arrive whole within {self.bounds.read_seconds} s."
            self._refuse(_last(408, detail))
        else:  # no request has begun, or it is answered and still being sent
            self.transport.close()

    def _refuse(self, answer: ProblemAnswer) -> None:
        """Write an answer that no application gives, and close.

        Where other answers are due first, they are given instead. Where the request's own has begun
        or is complete, none is: the client would take it for that one, or for the next.
        """
        if self.transport.is_closing() or self._end_after_answers():
            return
        if not (self._in_body() and self.cycle.response_started):
            self.count(answer.status_code)
            self.transport.write(self._written(answer))
        self.transport.close()

    def _in_body(self) -> bool:
        """The last request has come in part, with its head."""
        return not (self._whole or self._in_head)

    def _end_after_answers(self) -> bool:
        """Close once the requests that came whole are answered; False where all of them are."""
        last = [] if self.cycle is None or self._in_body() else [self.cycle]
        due = [each for each in [*self._unanswered, *last] if not each.response_complete]
        if due:
            due[-1].keep_alive = False
            self._ending = True
            self.flow.resume_reading()  # what is unread when a socket is closed resets it
            self._stop_clock()
        return bool(due)

    def _written(self, answer: ProblemAnswer) -> bytes:
        """An answer as it goes over the wire, with what every answer carries."""
        request_id = new_request_id()
        named = answer.of(request_id)
        headers = [*self.server_state.default_headers, *named.raw_headers, *added(request_id)]
        lines = [b"%s: %s\r\n" % header for header in headers]
        return STATUS_LINE[named.status_code] + b"".join(lines) + b"\r\n" + bytes(named.body)

    def _say_full(self) -> None:
        """In the log, but not once for every connection of a flood."""
        if time.monotonic() - self.said_full > SAY_AGAIN_SECONDS:
            type(self).said_full = time.monotonic()
            most = self.bounds.max_connections
            log.warning("All %d connections are in use; new ones are refused.", most)


def _last(status: int, detail: str, *, retry: bool = False) -> ProblemAnswer:
    """A problem after which the connection is closed; `retry` where another one may be opened."""
    headers = {"Connection": "close"}
    if retry:
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    return problem(status, detail, headers=headers)
