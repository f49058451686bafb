"""Faults of Redis, injected into a real server or the connection to it, and removed again."""

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

Injector = Callable[[ChaosProxy, RedisServer], AbstractAsyncContextManager[None]]
ENDLESS_SCRIPT = "while true do end"


@dataclass(frozen=True, slots=True)
class Fault:
    """Fault, and what the service must answer meanwhile; None: either is true."""

    name: str
    inject: Injector
    degraded: bool | None  # of the lists of users
    stored: bool | None  # of clicks with an event id


def _proxy(mode: FaultMode) -> Injector:
    @asynccontextmanager
    async def inject(proxy: ChaosProxy, _: RedisServer) -> AsyncIterator[None]:
        await proxy.set_mode(mode)
        yield
        await proxy.set_mode(FaultMode.NONE)

    return inject


def _commands(command: str, undo: str) -> Injector:
    """Return an injector that sends the server a command, and its opposite afterwards."""

    @asynccontextmanager
    async def inject(_: ChaosProxy, server: RedisServer) -> AsyncIterator[None]:
        with server.client() as client:
            client.execute_command(*command.split())
            yield
            client.execute_command(*undo.split())

    return inject


@asynccontextmanager
async def _wrong_password(_: ChaosProxy, server: RedisServer) -> AsyncIterator[None]:
    with server.client() as client:
        client.config_set("requirepass", "another")
        client.client_kill_filter(_type="normal", skipme=True)  # else connections stay valid
        yield
        client.config_set("requirepass", "")


@asynccontextmanager
async def _endless_script(_: ChaosProxy, server: RedisServer) -> AsyncIterator[None]:
    def run() -> None:
        with server.client() as client, contextlib.suppress(RedisError):
            client.eval(ENDLESS_SCRIPT, 0)

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
    except RedisError as error:
        return str(error).startswith("BUSY")
    return False


@asynccontextmanager
async def _killed(_: ChaosProxy, server: RedisServer) -> AsyncIterator[None]:
    server.kill()
    yield
    await asyncio.to_thread(server.start)


FAULTS = (
    Fault("refused", _proxy(FaultMode.REFUSED), degraded=True, stored=False),
    Fault("silent", _proxy(FaultMode.SILENT), degraded=True, stored=False),
    Fault("half a second late", _proxy(FaultMode.SLOW), degraded=True, stored=False),
    Fault(
        "cut in the middle of a reply", _proxy(FaultMode.CUT_REPLIES), degraded=None, stored=None
    ),
    Fault("flapping", _proxy(FaultMode.FLAPPING), degraded=None, stored=None),
    Fault("delivered late", _proxy(FaultMode.LATE_COMMANDS), degraded=True, stored=False),
    Fault("loading", _proxy(FaultMode.LOADING), degraded=True, stored=False),
    Fault("an endless script", _endless_script, degraded=True, stored=False),
    Fault("wrong password", _wrong_password, degraded=True, stored=False),
    Fault("killed", _killed, degraded=True, stored=False),
    Fault(
        "memory full",
        _commands("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        degraded=False,
        stored=False,
    ),
    Fault(
        "a replica",
        _commands("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        degraded=False,
        stored=False,
    ),
    Fault(
        "replicas missing",
        _commands("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        degraded=False,
        stored=False,
    ),
    Fault(
        "scripts flushed", _commands("SCRIPT FLUSH", "SCRIPT FLUSH"), degraded=False, stored=True
    ),
)
