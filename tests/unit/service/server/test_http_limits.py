"""A connection has limits of time, size and number, tested with raw sockets."""

import asyncio
import inspect
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from httptools import HttpRequestParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from service.server.http_limits import MAX_CHUNKS, MAX_PIPELINED, BoundedProtocol, PlainParser
from service.settings import Settings
from tests.support.service.raw_http import answered, closed, problem, rest, trickle
from tests.support.service.servers import listening

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
LONG_ANSWER = b"x" * 30_000_000  # more than the kernel holds for a client that does not read
SOME_ANSWER = b"x" * 40_000
ANSWERS = {"/long": LONG_ANSWER, "/some": SOME_ANSWER}


class Echo:
    """Application that answers with the length of the body and records the requests."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[set[bytes]] = []  # their names
        self.left = 0  # requests whose client left before they were complete
        self.slow: float = 0.0  # seconds until a body is answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        self.paths.append(scope["path"])
        try:
            body = await Request(scope, receive).body()
            self.headers.append({name for name, _ in scope["headers"]})
        except ClientDisconnect:
            self.left += 1
            return
        await asyncio.sleep(self.slow)
        text = ANSWERS.get(scope["path"], b"%d bytes" % len(body))
        await PlainTextResponse(text)(scope, receive, send)


Opens = Callable[..., socket.socket]
Serve = Callable[..., AbstractContextManager[Opens]]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def serve(echo: Echo) -> Serve:
    """Serve the application with these settings and yield a function that connects to it."""

    @contextmanager
    def opening(*, send_buffer: int | None = None, **settings: Any) -> Iterator[Opens]:
        given = Settings(bundle=Path("none"), **settings)
        with listening(echo, given, send_buffer=send_buffer) as address:
            yield lambda receive_buffer=None: connected(address, receive_buffer)

    return opening


def connected(address: tuple[str, int], receive_buffer: int | None) -> socket.socket:
    """Open a connection; `receive_buffer` is the number of unread bytes that the kernel holds."""
    client = socket.socket()
    client.settimeout(10)
    if receive_buffer is not None:  # known to the other side from the first packet on
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect(address)
    return client


@pytest.mark.parametrize("body", [False, True], ids=["head", "body"])
def test_a_request_that_arrives_too_slowly_is_408(serve: Serve, echo: Echo, body: bool) -> None:
    with serve(read_seconds=0.3) as opens, closing(opens()) as slow:
        if body:
            slow.sendall(POST + b"Content-Length: 1000\r\n\r\n")
        trickle(slow, (b"" if body else GET[:-4] + b"\r\nX-A: ") + b"a" * 1000, 1.0)

        assert problem(slow)["status"] == 408

    assert echo.left == len(echo.paths) == int(body)


def test_slow_clients_delay_no_other_client(serve: Serve) -> None:
    with serve(read_seconds=60) as opens:
        slow = [opens() for _ in range(100)]
        for connection in slow:
            connection.sendall(GET[:-2])
        with closing(opens()) as quick:
            quick.sendall(GET)
            assert answered(quick)[0] == 200
        for connection in slow:
            connection.close()


@pytest.mark.parametrize("sent", [b"", b"\r\n", GET + b"\r\n"], ids=["no", "blank", "after"])
def test_a_silent_connection_is_closed(serve: Serve, sent: bytes) -> None:
    """Empty lines do not begin a request."""
    with serve(read_seconds=0.3) as opens, closing(opens()) as silent:
        silent.sendall(sent)
        if sent.startswith(GET):
            assert answered(silent)[0] == 200
            silent.sendall(b"\r\n")

        assert closed(silent)


def test_a_client_that_does_not_read_is_disconnected(serve: Serve) -> None:
    with serve(read_seconds=0.3) as opens, closing(opens()) as deaf:
        deaf.sendall(GET.replace(b"/ ", b"/long "))
        time.sleep(1.0)

        assert len(rest(deaf)) < len(LONG_ANSWER)


def test_a_client_that_reads_receives_a_long_answer(serve: Serve) -> None:
    with serve() as opens, closing(opens()) as client:
        client.sendall(GET.replace(b"/ ", b"/long "))

        assert answered(client)[2] == LONG_ANSWER


def test_an_endless_head_is_431(serve: Serve, echo: Echo) -> None:
    with serve(max_head_bytes=2000) as opens, closing(opens()) as endless:
        endless.sendall(GET[:-2])
        time.sleep(0.1)
        endless.sendall(b"X-A: " + b"a" * 2000)

        assert problem(endless)["status"] == 431
    assert echo.paths == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (GET[:-2] + b"X-A: " + b"a" * 1976 + b"\r\n\r\n", 200),  # with 3 * 4 + 12 bytes
        (GET[:-2] + b"X-A: " + b"a" * 1984 + b"\r\n\r\n", 431),
        (GET[:-2] + b"X-A: a\r\n" * 19 + b"\r\n", 200),
        (GET[:-2] + b"X-A: a\r\n" * 20 + b"\r\n", 431),
        (b"GET /" + b"a" * 299 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /?" + b"a" * 299 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    ],
    ids=["large", "too large", "many", "too many", "long", "too long", "long query"],
)
def test_heads_have_limits(serve: Serve, echo: Echo, head: bytes, status: int) -> None:
    with (
        serve(max_head_bytes=2000, max_headers=20, max_url_bytes=300) as opens,
        closing(opens()) as client,
    ):
        client.sendall(head)

        if status == 200:
            assert answered(client)[0] == 200
        else:
            assert problem(client)["status"] == status
            assert echo.paths == []


def test_a_long_body_does_not_count_as_head(serve: Serve) -> None:
    with serve(max_head_bytes=1024) as opens, closing(opens()) as client:
        for _ in range(3):
            client.sendall(POST + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000)
            assert answered(client)[2] == b"300000 bytes"


def test_one_connection_too_many_is_refused_and_the_others_continue(serve: Serve) -> None:
    """With the limit of uvicorn, silent connections would cause 503 for every request."""
    with serve(max_connections=3, keep_alive_seconds=60) as opens:
        idle = [opens() for _ in range(3)]
        for connection in idle:
            connection.sendall(GET)
            assert answered(connection)[0] == 200

        with closing(opens()) as fourth:
            fourth.sendall(GET)  # as clients do, before they hear anything
            status, headers, _ = answered(fourth)
            assert (status, headers["retry-after"]) == (503, "1")
            assert closed(fourth)
        idle[0].sendall(GET)
        assert answered(idle[0])[0] == 200

        idle[1].close()
        time.sleep(0.1)
        with closing(opens()) as fifth:
            fifth.sendall(GET)
            assert answered(fifth)[0] == 200
        for connection in idle:
            connection.close()


def test_pipelined_requests_are_answered_in_order_up_to_a_limit(serve: Serve, echo: Echo) -> None:
    with serve() as opens:
        with closing(opens()) as eager:
            eager.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(10)))
            assert [answered(eager)[0] for _ in range(10)] == [200] * 10
        assert echo.paths == [f"/{n}" for n in range(10)]
        with closing(opens()) as greedy:
            greedy.sendall(GET * 5000)
            given = rest(greedy)
    assert len(echo.paths) == 10 + given.count(b"HTTP/1.1 200")
    assert 0 < given.count(b"HTTP/1.1 200") <= MAX_PIPELINED + 1
    assert given.count(b"connection: close") == given.count(b"HTTP/1.1 ") - MAX_PIPELINED == 1


@pytest.mark.parametrize(
    "wrong",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X-A: a\r\n" * 5000,
        POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * (MAX_CHUNKS + 1),
    ],
    ids=["no http", "head", "chunk", "chunks"],
)
def test_requests_before_an_invalid_one_are_answered(
    serve: Serve, echo: Echo, wrong: bytes
) -> None:
    """Their clicks are stored, so the client must receive the answers."""
    echo.slow = 0.1
    good = [POST + b"Content-Length: 3\r\n\r\nabc", GET]
    with serve(keep_alive_seconds=60, read_seconds=60) as opens, closing(opens()) as client:
        client.sendall(b"".join(good) + wrong + GET)

        assert [answered(client)[::2] for _ in good] == [(200, b"3 bytes"), (200, b"0 bytes")]
        assert closed(client)
    assert len(echo.paths) == len(good)


@pytest.mark.parametrize(
    "sent",
    [POST + b"Content-Length: 3\r\n\r\nabc", GET * 3, GET + GET[:-2], GET + POST[:5]],
    ids=["body", "several", "half a head", "half a line"],
)
def test_a_client_that_closes_its_side_after_its_requests_is_answered(
    serve: Serve, echo: Echo, sent: bytes
) -> None:
    echo.slow = 0.1
    whole = sent.count(b"\r\n\r\n")
    with serve(keep_alive_seconds=60, read_seconds=60) as opens, closing(opens()) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)

        assert [answered(client)[0] for _ in range(whole)] == [200] * whole
        assert closed(client)
    assert len(echo.paths) == whole


def test_a_client_that_closes_its_side_within_a_request_is_disconnected(
    serve: Serve, echo: Echo
) -> None:
    with serve(keep_alive_seconds=60, read_seconds=60) as opens, closing(opens()) as client:
        client.sendall(POST + b"Content-Length: 3\r\n\r\na")
        client.shutdown(socket.SHUT_WR)

        assert closed(client)
    assert echo.left == len(echo.paths) <= 1


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"


def test_a_trailer_is_not_a_header(serve: Serve, echo: Echo) -> None:
    with serve() as opens, closing(opens()) as client:
        client.sendall(CHUNKED + b"Authorization: Bearer of-a-key\r\n\r\n" + GET)

        assert answered(client)[::2] == (200, b"3 bytes")
        assert answered(client)[0] == 200
    assert all(b"authorization" not in names for names in echo.headers)


@pytest.mark.parametrize("trailer", [b"a" * 200_000, b"a: b\r\n" * 30_000], ids=["long", "many"])
def test_trailers_have_a_limit(serve: Serve, trailer: bytes) -> None:
    with serve(read_seconds=60) as opens, closing(opens()) as client:  # longer than we wait
        client.sendall(CHUNKED)
        for start in range(0, len(trailer), 1000):
            try:
                client.sendall(trailer[start : start + 1000])
            except OSError:  # closed by the service
                break
            time.sleep(0.001)

        assert rest(client).count(b"HTTP/1.1 200") == 0  # closed, and not as if it had been whole


def test_the_number_of_chunks_of_a_body_is_bounded(serve: Serve, echo: Echo) -> None:
    """A chunk of one byte costs as much time as hundreds of bytes of a larger one."""
    begun, end = POST + b"Transfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"
    with serve() as opens:
        with closing(opens()) as client:
            for _ in range(2):  # each body has a count of its own
                client.sendall(begun + b"1\r\na\r\n" * (MAX_CHUNKS - 1) + end)
                assert answered(client)[::2] == (200, b"%d bytes" % (MAX_CHUNKS - 1))
        with closing(opens()) as client:
            client.sendall(begun + b"1\r\na\r\n" * MAX_CHUNKS + end)
            refused = problem(client)
    assert refused["status"] == 413
    assert "10,000 chunks" in refused["detail"]
    assert len(echo.headers) == 2


def test_chunk_extensions_have_a_limit(serve: Serve, echo: Echo) -> None:
    settings: dict[str, Any] = {"max_body_bytes": 10_000, "max_head_bytes": 1024}
    with serve(read_seconds=60, **settings) as opens, closing(opens()) as client:
        client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):
            try:
                client.sendall(b"1;" + b"x" * 900 + b"\r\na\r\n")
            except OSError:  # closed by the service
                break
            time.sleep(0.001)

        assert rest(client).startswith(b"HTTP/1.1 413 ")
    assert echo.left == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        GET[:-2] + b"X-A : b\r\n\r\n",
        POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=[
        "tls", "raw byte", "version", "space", "two lengths", "negative", "smuggled", "chunk", "h2",
        "0.9", "no host", "two hosts", "two equal hosts", "proxy", "whole url",
    ],
)  # fmt: skip
def test_invalid_http_is_400(serve: Serve, sent: bytes) -> None:
    with serve() as opens, closing(opens()) as strange:
        strange.sendall(sent)

        assert problem(strange)["status"] == 400


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
@pytest.mark.parametrize("pieces", [1, 2, 30])
def test_a_request_for_another_protocol_is_answered_in_http(
    serve: Serve, echo: Echo, protocol: bytes, pieces: int
) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\nSec-WebSocket-Key: a\r\n"
    sent = POST + upgrade + b"Content-Length: 5\r\n\r\n12345" + GET[:-2] + upgrade + b"\r\n" + GET
    size = -(-len(sent) // pieces)
    with serve() as opens, closing(opens()) as client:
        for start in range(0, len(sent), size):
            client.sendall(sent[start : start + size])
            time.sleep(0.005)

        assert [answered(client)[::2] for _ in range(3)] == [
            (200, b"5 bytes"),
            (200, b"0 bytes"),
            (200, b"0 bytes"),
        ]
    assert len(echo.paths) == 3


def test_answers_without_the_application_are_counted(echo: Echo) -> None:
    counted: list[int] = []
    given: dict[str, Any] = {"max_url_bytes": 300, "max_connections": 1, "read_seconds": 0.5}
    settings = Settings(bundle=Path("none"), **given)
    sent = [
        (GET.replace(b"/ ", b"/" + b"a" * 300 + b" "), 414),
        (GET[:-2] + b"X-A: b\r\n" * 101 + b"\r\n", 431),
        (GET[:-2], 408),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
    ]
    with listening(echo, settings, counted.append) as address:
        for request, status in sent:
            with closing(socket.create_connection(address, timeout=10)) as client:
                client.sendall(request)
                assert problem(client)["status"] == status
        with closing(socket.create_connection(address, timeout=10)) as first:
            first.sendall(GET)
            assert answered(first)[0] == 200
            with closing(socket.create_connection(address, timeout=10)) as second:
                assert problem(second)["status"] == 503

    assert counted == [*(status for _, status in sent), 503]
    assert len(echo.paths) == 1


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_client_that_leaves_little_unread_is_disconnected(
    serve: Serve, echo: Echo, caplog: pytest.LogCaptureFixture, ahead: int
) -> None:
    """The answer fits the buffers of uvicorn, and no traceback is logged."""
    patience = {"read_seconds": 0.3, "keep_alive_seconds": 60, "send_buffer": 4096}
    with serve(**patience) as opens, closing(opens(4096)) as deaf, closing(opens()) as other:
        deaf.sendall(GET.replace(b"/ ", b"/some ") * ahead)
        for _ in range(100):  # the others go on, and time goes by
            other.sendall(GET)
            assert answered(other)[0] == 200
            time.sleep(0.02)

        assert len(rest(deaf)) < len(SOME_ANSWER) * ahead
    assert not [line for line in caplog.records if line.exc_info]


def test_shutdown_does_not_wait_for_silent_or_slow_clients(serve: Serve) -> None:
    """Such clients could otherwise delay the end of the process without a limit."""
    with ExitStack() as stack:
        with serve(read_seconds=60, keep_alive_seconds=60, shutdown_seconds=1.0) as opens:
            silent, half, body, deaf, idle = (
                stack.enter_context(closing(opens())) for _ in "12345"
            )
            half.sendall(GET[:-2])
            body.sendall(POST + b"Content-Length: 10\r\n\r\n123")
            deaf.sendall(GET.replace(b"/ ", b"/long "))
            idle.sendall(GET)
            assert answered(idle)[0] == 200
        for client in (silent, half, body, idle):
            assert closed(client)
        assert len(rest(deaf)) < len(LONG_ANSWER)


def test_the_libraries_have_the_attributes_that_the_limits_use() -> None:
    """The limits override and read only public names of uvicorn and httptools."""
    ours = {name for name in vars(BoundedProtocol) if not name.startswith("__")}
    overridden = {name for name in ours if not name.startswith("_")} - {
        "bounds", "count", "full_logged", "plain_head", "on_chunk_header",
    }  # fmt: skip
    with closing(asyncio.new_event_loop()) as loop:
        theirs = HttpToolsProtocol(Config(Echo(), log_config=None), ServerState(), {}, loop)
    read = {
        "app", "connections", "cycle", "flow", "headers", "loop", "parser", "pipeline",
        "server_state", "transport",
    }  # fmt: skip
    of_a_cycle = {
        "disconnected", "keep_alive", "message_event", "response_complete", "response_started",
    }  # fmt: skip

    assert overridden <= set(vars(HttpToolsProtocol))
    assert not {name for name in ours if name.startswith("_")} & set(dir(theirs))
    assert read <= set(vars(theirs))
    source = inspect.getsource(RequestResponseCycle.__init__)
    assert all(f"self.{name} = " in source for name in of_a_cycle)
    assert list(inspect.signature(Server.handle_exit).parameters) == ["self", "sig", "frame"]
    assert STATUS_LINE[431].startswith(b"HTTP/1.1 431 ")
    assert issubclass(PlainParser, HttpRequestParser)
    assert version("uvicorn").startswith("0.54.")
    assert version("httptools").startswith("0.9.")
