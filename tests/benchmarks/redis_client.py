"""CPU that a batch of visits costs this process, Redis itself left out.

    python tests/benchmarks/redis_client.py --clicks 10

Each visit records a click of a user who has so many, and a state of 128 numbers goes along with it,
as in the service at full load. The best of five rounds for each size of batch.
"""

import time
from collections.abc import Sequence

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from service.server.embedded_redis import private_redis
from service.store.session_store import Click, ComputedState, RedisStore, StoredSession, Visit
from tests.support.redis.stores import redis_client_for, store_on

USERS = [f"user-{number}" for number in range(64)]
ITEM, STATE = "123456789", b"x" * 564
ROUNDS = 5


def main(clicks: int = 10, visits: int = 4000) -> None:
    """A table of microseconds."""
    with private_redis() as url:
        table = uvloop.run(table_of(url, clicks, visits))
    Console().print(table)


async def table_of(url: str, clicks: int, visits: int) -> Table:
    table = Table("visits in a batch", "CPU µs a batch", "a visit", "µs a batch on the clock")
    link = redis_client_for(url)
    store = store_on(link, history_length=clicks)
    for _ in range(clicks):
        await store.visit([Visit(user, (Click(ITEM),)) for user in USERS])
    for size in (1, 4, 32):
        cpu, clock = min([await a_round(store, size, visits) for _ in range(ROUNDS)])
        table.add_row(str(size), f"{cpu:.0f}", f"{cpu / size:.1f}", f"{clock:.0f}")
    await link.close()
    return table


async def a_round(store: RedisStore, size: int, visits: int) -> tuple[float, float]:
    """Microseconds of CPU, and on the clock."""
    batches = visits // size
    states: Sequence[ComputedState] = ()
    clock, cpu = time.perf_counter(), time.process_time()
    for at in range(batches):
        users = [USERS[(at * size + number) % len(USERS)] for number in range(size)]
        _, found = await store.exchange(states, [Visit(user, (Click(ITEM),)) for user in users])
        both = zip(users, found, strict=True)
        states = [ComputedState(u, s.head, STATE) for u, s in both if isinstance(s, StoredSession)]
        assert len(states) == size, found
    used, took = time.process_time() - cpu, time.perf_counter() - clock
    return used / batches * 1e6, took / batches * 1e6


if __name__ == "__main__":
    typer.run(main)
