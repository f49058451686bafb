"""Discovery of servers through sentinels and cluster nodes, with correct and malformed replies."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import hiredis
import pytest

from service.redis_client.cluster import Cluster
from service.redis_client.connections import Reply
from service.redis_client.server import RedisCall, ServerLimits
from service.redis_client.url import HostPort
from tests.support.redis.servers import own_redis
from tests.support.redis.stores import BREAKER, redis_client_for

SET = RedisCall(("SET", "key", "value"), "", repeatable=True)


@asynccontextmanager
async def fake_sentinel(address: bytes, state: bytes) -> AsyncIterator[int]:
    """Run a sentinel that answers both commands with these bytes; yield its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        while data := await reader.read(65536):
            commands.feed(data)
            while (command := commands.gets()) is not False:
                assert isinstance(command, list)
                writer.write(address if command[1] == b"GET-MASTER-ADDR-BY-NAME" else state)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def array(*texts: str) -> bytes:
    parts = [f"${len(text)}\r\n{text}\r\n" for text in texts]
    return "".join([f"*{len(texts)}\r\n", *parts]).encode()


def sentinel_replies(port: int, epoch: int) -> tuple[bytes, bytes]:
    return array("127.0.0.1", str(port)), array("name", "shop", "config-epoch", str(epoch))


@pytest.mark.parametrize("newest", [0, 1, 2])
async def test_the_sentinel_with_the_highest_epoch_counts(newest: int) -> None:
    with own_redis() as before, own_redis() as now, now.client() as client:
        async with AsyncExitStack() as stack:
            ports = [
                await stack.enter_async_context(
                    fake_sentinel(
                        *sentinel_replies(
                            now.port if at == newest else before.port, int(at == newest)
                        )
                    )
                )
                for at in range(3)
            ]
            hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
            redis_client = redis_client_for(f"redis+sentinel://{hosts}/shop")

            assert await redis_client.run("set", [SET]) == [b"OK"]
            assert client.get("key") == b"value"
            await redis_client.close()


MALFORMED = {
    "no epoch": (array("127.0.0.1", "1"), array("name", "shop")),
    "odd list": (array("127.0.0.1", "1"), array("name")),
    "epoch is not a number": (array("127.0.0.1", "1"), array("config-epoch", "new")),
    "port is not a number": (array("127.0.0.1", "redis"), array("config-epoch", "9")),
    "one word": (array("127.0.0.1"), array("config-epoch", "9")),
    "nil": (b"*-1\r\n", b"*-1\r\n"),
    "a text": (b"+OK\r\n", b"+OK\r\n"),
    "an error": (b"-ERR no\r\n", b"-ERR no\r\n"),
}


@pytest.mark.parametrize("wrong", MALFORMED.values(), ids=MALFORMED)
async def test_a_sentinel_with_a_malformed_reply_is_ignored(wrong: tuple[bytes, bytes]) -> None:
    with own_redis() as server:
        async with (
            fake_sentinel(*wrong) as bad,
            fake_sentinel(*sentinel_replies(server.port, 1)) as good,
        ):
            redis_client = redis_client_for(
                f"redis+sentinel://127.0.0.1:{bad},127.0.0.1:{good}/shop"
            )

            assert await redis_client.run("set", [SET]) == [b"OK"]
            await redis_client.close()


async def test_a_name_that_no_sentinel_knows_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with fake_sentinel(*MALFORMED["nil"]) as port:
        redis_client = redis_client_for(f"redis+sentinel://127.0.0.1:{port}/shpo")
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                await redis_client.run("set", [SET])
        await redis_client.close()

    assert [message for message in caplog.messages if "'shpo'" in message] == [
        "None of 1 sentinels names a primary 'shpo'. Check the name in the URL."
    ]


class RecordingServer:
    """Cluster server with given replies to CLUSTER SLOTS, which records that it was closed."""

    def __init__(self, address: HostPort, slots: list[Reply], closed: list[HostPort]) -> None:
        self._address, self._slots, self._closed = address, slots, closed

    async def execute(
        self, calls: Sequence[RedisCall], deadline: float, *, asking: bool = False
    ) -> list[Reply]:
        return [self._slots[0] if call.command[0] == "CLUSTER" else b"OK" for call in calls]

    async def close_later(self) -> None:
        self._closed.append(self._address)

    async def close(self) -> None:
        self._closed.append(self._address)


async def test_a_server_that_left_the_cluster_is_closed_and_a_malformed_map_is_ignored() -> None:
    now = 0.0
    closed: list[HostPort] = []
    both = [[0, 8191, [b"a", 1]], [8192, 16383, [b"b", 2]]]
    slots: list[Reply] = [both]
    limits = ServerLimits(1.0, 1.0, BREAKER, clock=lambda: now)
    cluster = Cluster(
        [("a", 1)],
        lambda at, _: RecordingServer(at, slots, closed),  # type: ignore[arg-type, return-value]
        limits,
    )
    soon = asyncio.get_running_loop().time() + 60
    assert len(await cluster.servers(soon)) == 2

    for answer, servers in (("malformed", 2), ([[0, 1]], 2), ([[0, 16383, [b"a", 1]]], 1)):
        now, slots[0] = now + 10, answer
        cluster._map_reading.request()
        await cluster._map_reading.wait(soon)
        await asyncio.sleep(0)
        assert len(await cluster.servers(soon)) == servers
    assert closed == [("b", 2)]
    await cluster.close()
    assert closed == [("b", 2), ("a", 1)]
