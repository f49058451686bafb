"""A Redis that is silent, away or busy: said within the budget, and nobody waits for ever."""

import asyncio

import pytest
from stores import store_on, visit

from recsys.errors import StoreUnavailable
from service.redis_link import RedisLink
from service.store import Click, Visit


async def test_more_calls_than_connections_wait_instead_of_failing(redis_url: str) -> None:
    link = RedisLink(
        redis_url, timeout_ms=2000, budget_ms=5000, connections=2, observe=lambda *_: None
    )
    store = store_on(link)

    found = await asyncio.gather(*(visit(store, f"user {n}", Click("a")) for n in range(50)))

    assert [session.count for session in found] == [1] * 50

    await link.close()


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the connection, reads all, says nothing, until the client gives up."""
    while await reader.read(1024):
        pass
    writer.close()


async def test_a_silent_redis_is_said_within_the_budget() -> None:
    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = RedisLink(
        f"redis://127.0.0.1:{port}",
        timeout_ms=50,
        budget_ms=100,
        connections=4,
        observe=lambda *_: None,
    )
    began = asyncio.get_running_loop().time()

    (found,) = await store_on(link).visit([Visit("ada", (Click("a"),))])

    assert isinstance(found, StoreUnavailable)
    assert asyncio.get_running_loop().time() - began < 1.0  # redis-py's own defaults take 59 s
    await link.close()
    server.close()
    await server.wait_closed()


async def test_a_closed_port_is_said() -> None:
    link = RedisLink(
        "redis://127.0.0.1:1", timeout_ms=50, budget_ms=100, connections=4, observe=lambda *_: None
    )

    (found,) = await store_on(link).visit([Visit("ada")])

    assert isinstance(found, StoreUnavailable)
    with pytest.raises(StoreUnavailable):
        await store_on(link).forget("ada")
    await link.close()
