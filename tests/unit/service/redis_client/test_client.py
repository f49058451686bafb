"""Calls on a Redis that is silent, unavailable or busy fail within the budget, independently."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import redis as redis_py

from recsys.errors import StoreUnavailable
from service.redis_client.breaker import BreakerConfig, BreakerState
from service.redis_client.client import RedisClient
from service.redis_client.server import RedisCall
from service.server.embedded_redis import free_port
from service.store.click import Click
from service.store.session_store import StoredSession, Visit
from tests.support.redis.chaos_proxy import ChaosProxy, FaultMode
from tests.support.redis.faults import FAULTS
from tests.support.redis.servers import own_redis
from tests.support.redis.stores import redis_client_for, store_on, visit

TIGHT = {"timeout_ms": 100, "budget_ms": 200}
ECHO = "ECHO"
WHO = RedisCall(("CLIENT", "ID"), "", repeatable=False)


pytestmark = pytest.mark.both_loops  # they close connections differently


def echo(text: str, *, repeatable: bool = True) -> RedisCall:
    return RedisCall((ECHO, text), "", repeatable)


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1].partition("/")[0])


def wait_for(name: str) -> RedisCall:
    """Return a call that Redis answers when the list has an element."""
    return RedisCall(("BLPOP", name, 0), "", repeatable=False)


async def blocked(url: str, count: int) -> None:
    """Wait until `count` clients wait for a list."""
    with redis_py.Redis.from_url(url) as client:
        await eventually(lambda: client.info("clients")["blocked_clients"] == count)


async def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(3000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("waited in vain for a condition")


@asynccontextmanager
async def proxy_before(url: str) -> AsyncIterator[ChaosProxy]:
    async with ChaosProxy(free_port(), port_of(url)) as proxy:
        yield proxy


@asynccontextmanager
async def client_through(proxy: ChaosProxy, **given: object) -> AsyncIterator[RedisClient]:
    redis_client = redis_client_for(f"redis://127.0.0.1:{proxy.port}", **given)
    yield redis_client
    await redis_client.close()


async def test_more_calls_than_connections_wait_instead_of_failing(redis_url: str) -> None:
    redis_client = redis_client_for(redis_url, connections=2)
    store = store_on(redis_client)

    found = await asyncio.gather(*(visit(store, f"user {n}", Click("a")) for n in range(50)))

    assert [session.count for session in found] == [1] * 50
    await redis_client.close()


async def test_a_batch_is_answered_in_order_however_the_reply_is_cut(redis_url: str) -> None:
    async with proxy_before(redis_url) as proxy, client_through(proxy) as redis_client:
        await proxy.set_mode(FaultMode.FRAGMENTED)
        texts = [f"{n}" * n for n in range(1, 60)]

        assert await redis_client.run("echo", [echo(text) for text in texts]) == [
            t.encode() for t in texts
        ]


OWN_DEFAULTS_SECONDS = 30  # redis-py waits twice as long by its own defaults


async def test_a_silent_redis_is_reported_within_the_budget(redis_url: str) -> None:
    async with proxy_before(redis_url) as proxy, client_through(proxy, **TIGHT) as redis_client:
        await proxy.set_mode(FaultMode.SILENT)

        async with asyncio.timeout(OWN_DEFAULTS_SECONDS):
            (result,) = await store_on(redis_client).visit([Visit("ada", (Click("a"),))])

        assert isinstance(result, StoreUnavailable)
        assert "TimeoutError" in str(result)


async def test_a_silent_redis_with_a_password_is_reported_within_the_budget(redis_url: str) -> None:
    async with proxy_before(redis_url) as proxy:
        await proxy.set_mode(FaultMode.SILENT)
        redis_client = redis_client_for(f"redis://:pepper@127.0.0.1:{proxy.port}/3", **TIGHT)

        async with asyncio.timeout(OWN_DEFAULTS_SECONDS):
            (result,) = await redis_client.run("echo", [echo("a")])

        assert isinstance(result, StoreUnavailable)
        await redis_client.close()


async def test_a_closed_port_is_reported() -> None:
    redis_client = redis_client_for("redis://127.0.0.1:1", **TIGHT)

    (result,) = await store_on(redis_client).visit([Visit("ada")])

    assert isinstance(result, StoreUnavailable)
    assert "ConnectionRefusedError" in str(result)
    assert not await redis_client.ping()
    with pytest.raises(StoreUnavailable):
        await store_on(redis_client).forget("ada")
    await redis_client.close()


async def test_replies_that_came_before_a_reset_are_returned(redis_url: str) -> None:
    """Redis ran these commands."""
    async with proxy_before(redis_url) as proxy, client_through(proxy) as redis_client:
        await redis_client.run("echo", [echo("a")])
        await proxy.set_mode(FaultMode.CUT_REPLIES)

        found = await redis_client.run("echo", [echo("a" * 50, repeatable=False) for _ in range(4)])

        assert [isinstance(reply, bytes) for reply in found] == [True, True, False, False]


async def test_a_call_that_is_not_repeatable_is_not_sent_again(redis_url: str) -> None:
    async with proxy_before(redis_url) as proxy, client_through(proxy) as redis_client:
        once, again = RedisCall(("INCR", "once"), "", False), RedisCall(("INCR", "again"), "", True)
        await redis_client.run("incr", [once, again])
        await proxy.set_mode(FaultMode.CUT_REPLIES)

        await redis_client.run("incr", [echo("a" * 50), once, again])

        await proxy.set_mode(FaultMode.NONE)
        counted = [RedisCall(("GET", name), "", True) for name in ("once", "again")]
        assert await redis_client.run("get", counted) == [b"2", b"3"]


async def test_a_connection_that_redis_closed_while_idle_is_not_used(redis_url: str) -> None:
    async with proxy_before(redis_url) as proxy, client_through(proxy) as redis_client:
        await redis_client.run("echo", [echo("a")])
        await proxy.set_mode(FaultMode.REFUSED)
        await proxy.set_mode(FaultMode.NONE)
        await asyncio.sleep(0.05)

        assert await redis_client.run("echo", [echo("b", repeatable=False)]) == [b"b"]


async def test_a_delay_of_this_process_does_not_count_as_a_silent_redis(redis_url: str) -> None:
    """The process reads once more before it closes the connection."""
    redis_client = redis_client_for(redis_url, **TIGHT)
    connection = await redis_client.run("who", [WHO])
    running = asyncio.create_task(redis_client.run("who", [WHO]))
    asyncio.get_running_loop().call_soon(time.sleep, 0.3)

    assert await running == connection
    assert await redis_client.run("who", [WHO]) == connection
    await redis_client.close()


async def test_a_delay_of_this_process_while_connecting_does_not_count_as_a_silent_redis(
    redis_url: str,
) -> None:
    """The reply takes longer than the grace period of a late timer."""
    async with proxy_before(redis_url) as proxy:
        await proxy.set_mode(FaultMode.FRAGMENTED)
        for _ in range(2):
            async with client_through(proxy, timeout_ms=800, budget_ms=20_000) as redis_client:
                running = asyncio.create_task(
                    redis_client.run("echo", [echo("a", repeatable=False)])
                )
                asyncio.get_running_loop().call_soon(time.sleep, 1.0)

                assert await running == [b"a"]


async def test_cancelled_calls_open_no_breaker(redis_url: str) -> None:
    states: list[BreakerState | None] = []
    redis_client = redis_client_for(
        redis_url, on_state_change=lambda _, after: states.append(after)
    )
    for number in range(5):
        waiting = asyncio.create_task(redis_client.run("wait", [wait_for(f"list-{number}")]))
        await blocked(redis_url, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await blocked(redis_url, 0)

    assert await redis_client.run("echo", [echo("a")]) == [b"a"]
    assert states == [BreakerState.CLOSED]
    await redis_client.close()


async def test_a_cancelled_call_discards_its_connection(redis_url: str) -> None:
    """Otherwise the next caller would read its reply."""
    redis_client = redis_client_for(redis_url, connections=2)
    seen = set()
    for number in range(6):  # more than there are connections
        (connection,) = await redis_client.run("who", [WHO])
        seen.add(connection)
        waiting = asyncio.create_task(redis_client.run("wait", [wait_for(f"list-{number}")]))
        await blocked(redis_url, 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await blocked(redis_url, 0)

        texts = [f"{number}-{n}" for n in range(3)]
        assert await redis_client.run("echo", [echo(t) for t in texts]) == [
            t.encode() for t in texts
        ]
    assert len(seen) == 6
    await redis_client.close()


async def test_a_call_that_took_too_long_discards_its_connection(redis_url: str) -> None:
    redis_client = redis_client_for(redis_url, connections=1, timeout_ms=200, budget_ms=5000)
    (before,) = await redis_client.run("who", [WHO])

    (error,) = await redis_client.run("wait", [wait_for("a list")])

    assert "TimeoutError" in str(error)
    with redis_py.Redis.from_url(redis_url) as client:
        client.lpush("a list", "a reply that comes late")
    found = await redis_client.run("echo", [echo("a", repeatable=False), WHO])
    assert found[0] == b"a"
    assert found[1] != before
    await redis_client.close()


async def test_without_a_free_connection_a_call_fails_in_time(redis_url: str) -> None:
    """The call that uses the connection goes on."""
    states: list[BreakerState | None] = []
    redis_client = redis_client_for(
        redis_url,
        connections=1,
        timeout_ms=60_000,
        budget_ms=120_000,
        on_state_change=lambda _, after: states.append(after),
    )
    waiting = asyncio.create_task(redis_client.run("wait", [wait_for("a list")]))
    await blocked(redis_url, 1)

    for _ in range(4):
        (error,) = await redis_client.run("echo", [echo("a")], time.monotonic() + 0.1)
        assert "NoFreeConnection" in str(error)
    assert states == [BreakerState.CLOSED], "no request was sent, so Redis did not fail"
    with redis_py.Redis.from_url(redis_url) as client:
        client.lpush("a list", "a")
    assert await waiting == [[b"a list", b"a"]]
    await redis_client.close()


async def test_an_error_reply_affects_its_call_only(redis_url: str) -> None:
    redis_client = redis_client_for(redis_url)
    wrong = RedisCall(("LPUSH", "a-string", "a"), "", repeatable=True)
    await redis_client.run("set", [RedisCall(("SET", "a-string", "a"), "", repeatable=True)])

    found = await redis_client.run("echo", [echo("a"), wrong, echo("b")])

    assert found[::2] == [b"a", b"b"]
    assert isinstance(found[1], StoreUnavailable)
    await redis_client.close()


async def test_connecting_goes_on_when_no_call_can_wait_for_it() -> None:
    """Redis answers AUTH after the timeout; the database is chosen after that all the same."""
    with own_redis("--requirepass", "pepper") as server:
        async with proxy_before(server.url) as proxy:
            await proxy.set_mode(FaultMode.SLOW)
            url = f"redis://:pepper@127.0.0.1:{proxy.port}/3"
            redis_client = redis_client_for(url, timeout_ms=400, budget_ms=400)

            (error,) = await redis_client.run("echo", [echo("a")])

            assert "ConnectTimeout" in str(error)
            with redis_py.Redis(port=server.port, password="pepper") as client:
                await eventually(lambda: any(c["db"] == "3" for c in client.client_list()))
            await redis_client.close()


async def test_a_ping_is_shared_and_valid_for_a_second(redis_url: str) -> None:
    now, seen = 100.0, []
    redis_client = redis_client_for(
        redis_url, clock=lambda: now, observe=lambda name, *_: seen.append(name)
    )

    assert await asyncio.gather(*(redis_client.ping() for _ in range(5))) == [True] * 5
    now += 0.9
    assert await redis_client.ping()
    assert seen == ["ping"]

    now += 0.2
    assert await redis_client.ping()
    assert seen == ["ping", "ping"]
    await redis_client.close()


async def test_the_breaker_opens_for_a_redis_that_runs_an_endless_script(redis_url: str) -> None:
    busy = next(fault for fault in FAULTS if fault.name == "an endless script")
    with own_redis() as server:
        redis_client = redis_client_for(server.url)
        async with proxy_before(server.url) as proxy, busy.inject(proxy, server):
            found = [(await redis_client.run("echo", [echo("a")]))[0] for _ in range(4)]

        assert "no request is sent to it for a moment" in str(found[3])
        await redis_client.close()


async def test_the_breaker_opens_for_a_redis_that_keeps_failing_and_closes_again() -> None:
    port, changes = free_port(), []
    redis_client = redis_client_for(
        f"redis://127.0.0.1:{port}",
        breaker=BreakerConfig(3, 0.3),
        on_state_change=lambda _, after: changes.append(after),
    )
    for _ in range(2):  # each call is sent twice, because it is repeatable
        await redis_client.run("echo", [echo("a")])

    (refused,) = await redis_client.run("echo", [echo("a")])
    assert "no request is sent to it for a moment" in str(refused)
    assert changes == [BreakerState.CLOSED, BreakerState.OPEN]

    with own_redis(port=port):
        await asyncio.sleep(0.3)
        assert await redis_client.run("echo", [echo("b")]) == [b"b"]
        await redis_client.close()
    assert changes[2:] == [BreakerState.HALF_OPEN, BreakerState.CLOSED, None]


async def test_full_memory_stops_writing_and_not_reading(redis_url: str) -> None:
    with own_redis() as server, server.client() as client:
        redis_client = redis_client_for(server.url)
        store = store_on(redis_client)
        await visit(store, "ada", Click("a", "e1"))
        client.config_set("maxmemory", 1)

        refused = await visit(store, "ada", Click("b", "e2"))
        repeated = await visit(store, "ada", Click("a", "e1"))
        stranger = await visit(store, "bob", Click("c"))
        client.config_set("maxmemory", 0)
        taken = await visit(store, "ada", Click("b", "e2"))

        assert (refused.refused, refused.accepted, refused.item_ids) == ("OOM", 0, ["a"])
        assert (repeated.refused, repeated.duplicates) == ("", 1)
        assert stranger == StoredSession(refused="OOM")
        assert (taken.refused, taken.accepted, taken.item_ids) == ("", 1, ["a", "b"])
        await redis_client.close()
