"""What a connection may do, tried with sockets of our own: slow, silent, endless, too many."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from raw_http import answered, closed, problem, rest, trickle
from servers import listening
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from service.settings import Settings
from service.wire import MOST_AHEAD

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LONG_ANSWER = b"x" * 30_000_000  # more than the kernel holds for a client that does not read


class Echo:
    """Reads a body, says how long it was, and remembers which requests it saw."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[set[bytes]] = []  # their names
        self.left = 0  # requests whose client went before they were whole

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
        said = LONG_ANSWER if scope["path"] == "/long" else b"%d bytes" % len(body)
        await PlainTextResponse(said)(scope, receive, send)


Opens = Callable[[], socket.socket]
Serve = Callable[..., AbstractContextManager[Opens]]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def serve(echo: Echo) -> Serve:
    """Serves the echo; keyword arguments are settings. Gives what opens a connection to it."""

    @contextmanager
    def opening(**settings: Any) -> Iterator[Opens]:
        with listening(echo, Settings(bundle=Path("none"), **settings)) as address:
            yield lambda: socket.create_connection(address, timeout=10)

    return opening


@pytest.mark.parametrize("body", [False, True], ids=["head", "body"])
def test_a_request_that_trickles_in_is_408(serve: Serve, echo: Echo, body: bool) -> None:
    with serve(read_seconds=0.3) as opens, closing(opens()) as slow:
        if body:
            slow.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        trickle(slow, (b"" if body else GET[:-4] + b"\r\nX-A: ") + b"a" * 1000, 1.0)

        assert problem(slow)["status"] == 408

    assert echo.left == len(echo.paths) == int(body)


def test_slow_clients_keep_nobody_else_waiting(serve: Serve) -> None:
    with serve(read_seconds=60) as opens:
        slow = [opens() for _ in range(100)]
        for connection in slow:
            connection.sendall(GET[:-2])
        with closing(opens()) as quick:
            quick.sendall(GET)
            assert answered(quick)[0] == 200
        for connection in slow:
            connection.close()


@pytest.mark.parametrize("said", [b"", b"\r\n", GET + b"\r\n"], ids=["no", "blank", "after"])
def test_who_says_nothing_is_not_waited_for(serve: Serve, said: bytes) -> None:
    """Nor who sends blank lines, which begin no request."""
    with serve(read_seconds=0.3) as opens, closing(opens()) as silent:
        silent.sendall(said)
        if said.startswith(GET):
            assert answered(silent)[0] == 200
            silent.sendall(b"\r\n")

        assert closed(silent)


def test_a_client_that_does_not_read_is_cut_off(serve: Serve) -> None:
    with serve(read_seconds=0.3) as opens, closing(opens()) as deaf:
        deaf.sendall(GET.replace(b"/ ", b"/long "))
        time.sleep(1.0)

        assert len(rest(deaf)) < len(LONG_ANSWER)


def test_a_client_that_reads_gets_all_of_a_long_answer(serve: Serve) -> None:
    with serve() as opens, closing(opens()) as client:
        client.sendall(GET.replace(b"/ ", b"/long "))

        assert answered(client)[2] == LONG_ANSWER


def test_a_head_without_end_is_431(serve: Serve, echo: Echo) -> None:
    with serve(max_head_bytes=2000) as opens, closing(opens()) as endless:
        endless.sendall(GET[:-2])
        time.sleep(0.1)
        endless.sendall(b"X-A: " + b"a" * 2000)

        assert problem(endless)["status"] == 431
    assert echo.paths == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 1985 + b"\r\n\r\n", 200),  # with 2 * 4 + 7 bytes
        (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 1993 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X-A: a\r\n" * 20 + b"\r\n", 200),
        (b"GET / HTTP/1.1\r\n" + b"X-A: a\r\n" * 21 + b"\r\n", 431),
        (b"GET /" + b"a" * 299 + b" HTTP/1.1\r\n\r\n", 200),
        (b"GET /" + b"a" * 300 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /?" + b"a" * 299 + b" HTTP/1.1\r\n\r\n", 414),
    ],
    ids=["large", "too large", "many", "too many", "long", "too long", "long query"],
)
def test_heads_have_bounds(serve: Serve, echo: Echo, head: bytes, status: int) -> None:
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
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)
            assert answered(client)[2] == b"300000 bytes"


def test_one_connection_too_many_is_told_so_and_the_others_go_on(serve: Serve) -> None:
    """With uvicorn's own limit, connections that say nothing make every request 503."""
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


def test_requests_sent_ahead_are_answered_in_order_but_not_without_end(
    serve: Serve, echo: Echo
) -> None:
    with serve() as opens:
        with closing(opens()) as eager:
            eager.sendall(b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % n for n in range(10)))
            assert [answered(eager)[0] for _ in range(10)] == [200] * 10
        assert echo.paths == [f"/{n}" for n in range(10)]
        with closing(opens()) as greedy:
            greedy.sendall(GET * 5000)
            assert rest(greedy).count(b"HTTP/1.1 200") <= MOST_AHEAD
    assert len(echo.paths) <= 10 + MOST_AHEAD


CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"


def test_what_follows_a_body_is_no_header(serve: Serve, echo: Echo) -> None:
    with serve() as opens, closing(opens()) as client:
        client.sendall(CHUNKED + b"Authorization: Bearer of-a-key\r\n\r\n" + GET)

        assert answered(client)[::2] == (200, b"3 bytes")
        assert answered(client)[0] == 200
    assert all(b"authorization" not in names for names in echo.headers)


@pytest.mark.parametrize("trailer", [b"a" * 200_000, b"a: b\r\n" * 30_000], ids=["long", "many"])
def test_what_follows_a_body_has_an_end(serve: Serve, trailer: bytes) -> None:
    with serve(read_seconds=60) as opens, closing(opens()) as client:  # longer than we wait
        client.sendall(CHUNKED)
        for start in range(0, len(trailer), 1000):
            try:
                client.sendall(trailer[start : start + 1000])
            except OSError:  # closed by the service
                break
            time.sleep(0.001)

        assert rest(client).count(b"HTTP/1.1 200") == 0  # closed, and not as if it had been whole


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-A : b\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=[
        "tls", "raw byte", "version", "space", "two lengths", "negative", "smuggled", "chunk", "h2",
    ],
)  # fmt: skip
def test_what_is_not_http_is_400(serve: Serve, sent: bytes) -> None:
    with serve() as opens, closing(opens()) as strange:
        strange.sendall(sent)

        assert problem(strange)["status"] == 400


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_another_protocol_is_not_spoken(serve: Serve, protocol: bytes) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\nSec-WebSocket-Key: a\r\n\r\n"
    with serve() as opens, closing(opens()) as client:
        client.sendall(GET[:-2] + upgrade)

        assert answered(client)[0] == 200
