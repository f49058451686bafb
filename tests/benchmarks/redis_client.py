"""Measure the CPU time of a batch of visits in this process, and in Redis.

    python tests/benchmarks/redis_client.py --clicks 10
    python tests/benchmarks/redis_client.py --feedback

Each visit records a click of a user with so many clicks and writes a state of 128 numbers, as in
the service at full load, with feedback also a list of 20 items. The table shows the best of five
rounds for each batch size.
"""

import time
from collections.abc import Sequence
from typing import Any

import typer
import uvloop
from redis import Redis
from rich.console import Console
from rich.table import Table

from service.feedback.impressions import Impressions
from service.server.embedded_redis import private_redis
from service.store.click import Click
from service.store.session_store import ComputedState, RedisStore, StoredSession, Visit
from tests.support.redis.stores import redis_client_for, store_on

USERS = [f"user-{number}" for number in range(64)]
ITEM, STATE = "123456789", b"x" * 564
LIST = [ITEM] * 20
ROUNDS = 5
PLENTY = 10**12  # bytes


def main(clicks: int = 10, visits: int = 4000, feedback: bool = False) -> None:
    """Print microseconds per batch and per visit."""
    with private_redis() as url:
        table = uvloop.run(table_of(url, clicks, visits, feedback))
    Console().print(table)


async def table_of(url: str, clicks: int, visits: int, feedback: bool) -> Table:
    titles = ("CPU µs a batch", "CPU µs a visit", "wall-clock µs a batch", "Redis: CPU µs a visit")
    table = Table("visits in a batch", *titles)
    redis_client = redis_client_for(url)
    limits = {"stream_bytes": PLENTY} if feedback else {}
    store = store_on(redis_client, history_length=clicks, **limits)
    impressions = Impressions(redis_client, PLENTY, lambda *_: None) if feedback else None
    for _ in range(clicks):
        await store.visit([Visit(user, (Click(ITEM),)) for user in USERS])
    for size in (1, 4, 32):
        rounds, in_redis = [], []
        for _ in range(ROUNDS):
            before = redis_microseconds(url)
            rounds.append(await measure_round(store, impressions, size, visits))
            in_redis.append((redis_microseconds(url) - before) / visits)
        cpu, clock = min(rounds)
        figures = (f"{cpu:.0f}", f"{cpu / size:.1f}", f"{clock:.0f}", f"{min(in_redis):.1f}")
        table.add_row(str(size), *figures)
    await redis_client.close()
    return table


def redis_microseconds(url: str) -> float:
    """Return the CPU time that the server has used."""
    with Redis.from_url(url) as client:
        cpu: Any = client.info("cpu")
    return float(1e6 * (cpu["used_cpu_sys"] + cpu["used_cpu_user"]))


async def measure_round(
    store: RedisStore, impressions: Impressions | None, size: int, visits: int
) -> tuple[float, float]:
    """Return microseconds of CPU and of wall-clock time per batch."""
    batches = visits // size
    states: Sequence[ComputedState] = ()
    clock, cpu = time.perf_counter(), time.process_time()
    for at in range(batches):
        users = [USERS[(at * size + number) % len(USERS)] for number in range(size)]
        _, sessions = await store.exchange(states, [Visit(user, (Click(ITEM),)) for user in users])
        found = [each for each in sessions if isinstance(each, StoredSession)]
        assert len(found) == size, sessions
        states = [ComputedState(u, s.head, STATE) for u, s in zip(users, found, strict=True)]
        if impressions is not None:
            for each in found:
                impressions.add(
                    each.key, each.nonce, model_id="m", variant=None, source="model", items=LIST
                )
    if impressions is not None:
        await impressions.close()
    used, took = time.process_time() - cpu, time.perf_counter() - clock
    return used / batches * 1e6, took / batches * 1e6


if __name__ == "__main__":
    typer.run(main)
