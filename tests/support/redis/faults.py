"""What can happen to Redis: done to a real server, or to the way there, and undone again."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from tests.support.redis.chaos_proxy import ChaosProxy, FaultMode
from tests.support.redis.servers import RedisServer, wait_until

Doing = Callable[[ChaosProxy, RedisServer], AbstractAsyncContextManager[None]]
ENDLESS = "while true do end"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens, and what the service must say meanwhile; None: either is true."""

    name: str
    doing: Doing
    degraded: bool | None  # of the lists of users
    stored: bool | None  # of clicks with an event id


def _mood(mood: FaultMode) -> Doing:
    @asynccontextmanager
    async def do(gremlin: ChaosProxy, _: RedisServer) -> AsyncIterator[None]:
        await gremlin.be(mood)
        yield
        await gremlin.be(FaultMode.GOOD)

    return do


def _told(words: str, undo: str) -> Doing:
    """The server is told something, and the opposite afterwards."""

    @asynccontextmanager
    async def do(_: ChaosProxy, server: RedisServer) -> AsyncIterator[None]:
        with server.client() as client:
            client.execute_command(*words.split())
            yield
            client.execute_command(*undo.split())

    return do


@asynccontextmanager
async def _wrong_password(_: ChaosProxy, server: RedisServer) -> AsyncIterator[None]:
    with server.client() as client:
        client.config_set("requirepass", "another")
        client.client_kill_filter(_type="normal", skipme=True)  # who is in would stay in
        yield
        client.config_set("requirepass", "")


@asynccontextmanager
async def _endless_script(_: ChaosProxy, server: RedisServer) -> AsyncIterator[None]:
    def run() -> None:
        with server.client() as client, contextlib.suppress(RedisError):
            client.eval(ENDLESS, 0)

    with server.client() as client:
        client.config_set("lua-time-limit", 10)
        thread = threading.Thread(target=run)
        thread.start()
        await asyncio.to_thread(wait_until, lambda: _is_busy(client), "the script runs")
        yield
        await asyncio.to_thread(client.script_kill)
        thread.join()


def _is_busy(client: Redis) -> bool:
    try:
        client.ping()
    except RedisError as said:
        return str(said).startswith("BUSY")
    return False


@asynccontextmanager
async def _killed(_: ChaosProxy, server: RedisServer) -> AsyncIterator[None]:
    server.kill()
    yield
    await asyncio.to_thread(server.start)


FAULTS = (
    Fault("refused", _mood(FaultMode.ABSENT), degraded=True, stored=False),
    Fault("silent", _mood(FaultMode.SILENT), degraded=True, stored=False),
    Fault("half a second late", _mood(FaultMode.SLOW), degraded=True, stored=False),
    Fault("cut in the middle of a reply", _mood(FaultMode.RUDE), degraded=None, stored=None),
    Fault("flapping", _mood(FaultMode.FLAPPING), degraded=None, stored=None),
    Fault("delivered late", _mood(FaultMode.LATE), degraded=True, stored=False),
    Fault("loading", _mood(FaultMode.LOADING), degraded=True, stored=False),
    Fault("an endless script", _endless_script, degraded=True, stored=False),
    Fault("wrong password", _wrong_password, degraded=True, stored=False),
    Fault("killed", _killed, degraded=True, stored=False),
    Fault(
        "memory full",
        _told("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        degraded=False,
        stored=False,
    ),
    Fault(
        "a replica",
        _told("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        degraded=False,
        stored=False,
    ),
    Fault(
        "replicas missing",
        _told("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        degraded=False,
        stored=False,
    ),
    Fault("scripts flushed", _told("SCRIPT FLUSH", "SCRIPT FLUSH"), degraded=False, stored=True),
)
