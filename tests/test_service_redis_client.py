"""A Redis that is silent, away or busy: said within the budget, and nobody waits for ever."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from gremlin import Gremlin, Mood
from redis_faults import FAULTS
from redis_servers import own_redis
from stores import link_to, store_on, visit

from recsys.errors import StoreUnavailable
from service.breaker import BreakerConfig, State
from service.embedded_redis import free_port
from service.redis_client import RedisClient
from service.redis_server import Call
from service.store import Click, StoredSession, Visit

TIGHT = {"timeout_ms": 100, "budget_ms": 200}
ECHO = "ECHO"


pytestmark = pytest.mark.both_loops  # they hang up differently


def echo(text: str, *, repeatable: bool = True) -> Call:
    return Call((ECHO, text), "", repeatable)


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1].partition("/")[0])


@asynccontextmanager
async def gremlin_before(url: str) -> AsyncIterator[Gremlin]:
    async with Gremlin(free_port(), port_of(url)) as gremlin:
        yield gremlin


@asynccontextmanager
async def link_through(gremlin: Gremlin, **given: object) -> AsyncIterator[RedisClient]:
    link = link_to(f"redis://127.0.0.1:{gremlin.port}", **given)
    yield link
    await link.close()


async def test_more_calls_than_connections_wait_instead_of_failing(redis_url: str) -> None:
    link = link_to(redis_url, connections=2)
    store = store_on(link)

    found = await asyncio.gather(*(visit(store, f"user {n}", Click("a")) for n in range(50)))

    assert [session.count for session in found] == [1] * 50
    await link.close()


async def test_a_batch_is_answered_in_order_however_the_reply_is_cut(redis_url: str) -> None:
    async with gremlin_before(redis_url) as gremlin, link_through(gremlin) as link:
        await gremlin.be(Mood.DAWDLING)
        texts = [f"{n}" * n for n in range(1, 60)]

        assert await link.run("echo", [echo(text) for text in texts]) == [t.encode() for t in texts]


async def test_a_silent_redis_is_said_within_the_budget(redis_url: str) -> None:
    async with gremlin_before(redis_url) as gremlin, link_through(gremlin, **TIGHT) as link:
        await gremlin.be(Mood.SILENT)
        began = time.monotonic()

        (found,) = await store_on(link).visit([Visit("ada", (Click("a"),))])

        assert isinstance(found, StoreUnavailable)
        assert "TimeoutError" in str(found)
        assert time.monotonic() - began < 1.0  # redis-py's own defaults take 59 s


async def test_a_silent_redis_behind_a_password_is_said_within_the_budget(redis_url: str) -> None:
    async with gremlin_before(redis_url) as gremlin:
        await gremlin.be(Mood.SILENT)
        link = link_to(f"redis://:pepper@127.0.0.1:{gremlin.port}/3", **TIGHT)
        began = time.monotonic()

        (found,) = await link.run("echo", [echo("a")])

        assert isinstance(found, StoreUnavailable)
        assert time.monotonic() - began < 1.0
        await link.close()


async def test_a_closed_port_is_said() -> None:
    link = link_to("redis://127.0.0.1:1", **TIGHT)

    (found,) = await store_on(link).visit([Visit("ada")])

    assert isinstance(found, StoreUnavailable)
    assert "ConnectionRefusedError" in str(found)
    assert not await link.ping()
    with pytest.raises(StoreUnavailable):
        await store_on(link).forget("ada")
    await link.close()


async def test_replies_that_came_before_the_line_broke_count(redis_url: str) -> None:
    """They were carried out; to say that they failed would be no truer than the opposite."""
    async with gremlin_before(redis_url) as gremlin, link_through(gremlin) as link:
        await link.run("echo", [echo("a")])
        await gremlin.be(Mood.RUDE)

        found = await link.run("echo", [echo("a" * 50, repeatable=False) for _ in range(4)])

        assert [isinstance(reply, bytes) for reply in found] == [True, True, False, False]


async def test_what_may_run_once_only_is_not_sent_again(redis_url: str) -> None:
    async with gremlin_before(redis_url) as gremlin, link_through(gremlin) as link:
        once, again = Call(("INCR", "once"), "", False), Call(("INCR", "again"), "", True)
        await link.run("incr", [once, again])
        await gremlin.be(Mood.RUDE)

        await link.run("incr", [echo("a" * 50), once, again])

        await gremlin.be(Mood.GOOD)
        counted = [Call(("GET", name), "", True) for name in ("once", "again")]
        assert await link.run("get", counted) == [b"2", b"3"]


async def test_a_line_that_redis_closed_meanwhile_is_not_used(redis_url: str) -> None:
    async with gremlin_before(redis_url) as gremlin, link_through(gremlin) as link:
        await link.run("echo", [echo("a")])
        await gremlin.be(Mood.ABSENT)
        await gremlin.be(Mood.GOOD)
        await asyncio.sleep(0.05)

        assert await link.run("echo", [echo("b", repeatable=False)]) == [b"b"]


async def test_a_busy_process_does_not_blame_redis(redis_url: str) -> None:
    """Nobody looked for the reply while the time ran out: look once before hanging up."""
    link = link_to(redis_url, **TIGHT)
    who = Call(("CLIENT", "ID"), "", repeatable=False)
    line = await link.run("who", [who])
    asking = asyncio.create_task(link.run("who", [who]))
    asyncio.get_running_loop().call_soon(time.sleep, 0.3)

    assert await asking == line
    assert await link.run("who", [who]) == line
    await link.close()


async def test_a_redis_that_runs_an_endless_script_is_left_alone(redis_url: str) -> None:
    busy = next(fault for fault in FAULTS if fault.name == "an endless script")
    with own_redis() as server:
        link = link_to(server.url)
        async with gremlin_before(server.url) as gremlin, busy.doing(gremlin, server):
            found = [(await link.run("echo", [echo("a")]))[0] for _ in range(4)]

        assert "is not asked for a moment" in str(found[3])
        await link.close()


async def test_a_redis_that_keeps_failing_is_left_alone_and_tried_again() -> None:
    port, moves = free_port(), []
    link = link_to(
        f"redis://127.0.0.1:{port}",
        breaker=BreakerConfig(3, 0.3),
        on_state_change=lambda _, after: moves.append(after),
    )
    for _ in range(2):  # twice each, as they may be
        await link.run("echo", [echo("a")])

    (refused,) = await link.run("echo", [echo("a")])
    assert "is not asked for a moment" in str(refused)
    assert moves == [State.CLOSED, State.OPEN]

    with own_redis(port=port):
        await asyncio.sleep(0.3)
        assert await link.run("echo", [echo("b")]) == [b"b"]
        await link.close()
    assert moves[2:] == [State.HALF_OPEN, State.CLOSED, None]


async def test_full_memory_stops_writing_and_not_reading(redis_url: str) -> None:
    with own_redis() as server, server.client() as client:
        link = link_to(server.url)
        store = store_on(link)
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
        await link.close()
