"""After a failover, clicks are stored again and none is lost, with every kind of deployment.

The servers and sentinels are real. The tests check answers and wait without a time limit;
`python tests/soak/run.py failover` measures the times.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from recsys.errors import StoreUnavailable
from service.app import create_app
from service.redis_client.breaker import BreakerConfig
from service.redis_client.server import RedisCall, Script
from service.settings import Settings
from service.store.user_keys import user_key
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.redis.failover import (
    Failover,
    address_failover,
    cluster_failover,
    sentinel_failover,
)
from tests.support.redis.servers import redis_cluster, redis_pair, wait_until
from tests.support.redis.stores import primary_of, redis_client_for
from tests.support.service.app_client import PATIENT, client_of

SECRET = "a pepper of this shop"
USERS = [f"user-{number}" for number in range(12)]
ITEM = "aurora-tent"
SHOWN = 2  # minimum number of a user's clicks to be checked
ATTEMPTS, WAIT_SECONDS = 1200, 0.05  # maximum number of requests until an answer must have come
WRITE = Script(
    """
    local done = redis.pcall('SET', KEYS[1], ARGV[1])
    local code = done.err and string.match(done.err, '%u%u+') or ''
    return { code, redis.call('GET', KEYS[1]) }
    """,
    refusal=lambda reply: reply[0].decode() or None,
)


def write(value: str) -> RedisCall:
    """Return a call that writes a value."""
    return WRITE.call(["recsys:{a}:test"], [value], repeatable=True)


class Clicker:
    """Sender of clicks, each with its own event id; `stored` holds those that were acknowledged."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._sent = 0
        self.stored: dict[str, list[str]] = {}

    async def click(self, user: str) -> dict[str, Any]:
        """Send a click. Every answer must be a list, whatever happens to Redis."""
        self._sent += 1
        event = f"e{self._sent}"
        body = {"user_id": user, "item_id": ITEM, "event_id": event}
        response = await self._client.post("/v1/recommendations", json=body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        assert answer["degraded"] is False or answer["stored"] is False, answer
        if answer["stored"]:
            self.stored.setdefault(user, []).append(event)
        return answer

    async def click_until_stored(self, user: str) -> int:
        """Return how many clicks were not stored before one was."""
        for refused in range(ATTEMPTS):
            if (await self.click(user))["stored"]:
                return refused
            await asyncio.sleep(WAIT_SECONDS)
        raise AssertionError(f"no click of {user} was stored again")

    async def check(self) -> None:
        """Check that the last acknowledged clicks are stored, once, in order."""
        for user, events in self.stored.items():
            shown = await self._client.get(f"/v1/users/{user}")
            stored = [click["event_id"] for click in shown.json()["clicks"]]
            assert len(stored) == len(set(stored))
            found = [event for event in stored if event in events]
            assert found == events[-len(found) :], user
            assert len(found) >= min(len(events), SHOWN), user


@asynccontextmanager
async def clicker_of(trained: TrainedShop, failover: Failover) -> AsyncIterator[Clicker]:
    """Serve the bundle, store a click of each user, and wait for the replica."""
    values = {"redis": failover.url, "user_id_secret": SECRET, **PATIENT, "redis_timeout_ms": 500}
    values |= {"redis_budget_ms": 1000, "redis_pause_ms": 200}
    settings = Settings(bundle=trained.bundle, **values)  # type: ignore[arg-type]
    async with client_of(create_app(settings)) as client:
        clicker = Clicker(client)
        for user in USERS:
            assert await clicker.click_until_stored(user) == 0
        await asyncio.to_thread(failover.wait_for_replica)
        yield clicker


async def test_a_primary_that_the_sentinels_replace(trained: TrainedShop) -> None:
    async with sentinel_failover() as failover, clicker_of(trained, failover) as clicker:
        failover.primary.kill()

        assert await clicker.click_until_stored("ada") > 0
        for user in USERS:
            assert (await clicker.click(user))["stored"]
        await clicker.check()


@pytest.mark.both_loops
async def test_an_address_that_leads_to_another_server_after_its_own_was_demoted() -> None:
    """Existing connections stay with the demoted server, which answers reads."""
    async with address_failover(move_seconds=0) as failover:
        redis_client = redis_client_for(failover.url)
        assert await redis_client.run("write", [write("a")]) == [[b"", b"a"]]
        await asyncio.to_thread(failover.wait_for_replica)
        await asyncio.to_thread(failover.fail, lambda replica: None)

        replies: list[Any] = await redis_client.run("write", [write("b")])
        while replies[-1][0] and len(replies) < ATTEMPTS:
            await asyncio.sleep(WAIT_SECONDS)
            replies += await redis_client.run("write", [write("b")])

        assert replies[0] == [b"READONLY", b"a"]
        assert replies[-1] == [b"", b"b"]
        with failover.replica.client() as promoted:
            assert promoted.get("recsys:{a}:test") == b"b"
        await redis_client.close()


async def test_connections_to_a_replica_are_replaced_once_a_second() -> None:
    """READONLY in a reply or an error replaces them; other refusals keep the connection."""
    now = 100.0
    with redis_pair() as (primary, replica), primary.client() as client:
        redis_client = redis_client_for(replica.url, clock=lambda: now)
        writes = [write("a"), RedisCall(("SET", "recsys:b", "c"), "recsys:b", repeatable=True)]

        async def connections(calls: list[RedisCall]) -> set[Any]:
            who = RedisCall(("CLIENT", "ID"), "", repeatable=True)
            return {(await redis_client.run("who", [*calls, who]))[-1] for _ in range(5)}

        for call in writes:
            now += 1.0
            before = await connections([])
            first = await connections([call])
            assert await connections([call]) == first - before  # the clock stands still
            now += 1.0
            assert len(await connections([call]) | first) == len(first) + 1
        await redis_client.close()

        redis_client = redis_client_for(primary.url, clock=lambda: now)
        client.config_set("min-replicas-to-write", 5)
        assert await redis_client.run("write", [write("a")]) == [[b"NOREPLICAS", None]]
        assert len(await connections([write("a")])) == 1
        client.config_set("min-replicas-to-write", 0)
        client.config_set("maxmemory", 1)
        assert await redis_client.run("write", [write("a")]) == [[b"OOM", None]]
        assert len(await connections([write("a")])) == 1
        await redis_client.close()


async def test_the_breaker_opens_for_a_replica_that_has_lost_its_primary() -> None:
    with redis_pair("--replica-serve-stale-data", "no") as (primary, replica):
        redis_client = redis_client_for(replica.url)
        primary.kill()
        with replica.client() as client:
            wait_until(
                lambda: client.info("replication")["master_link_status"] == "down",
                "the replica has noticed it",
            )

        errors = [str((await redis_client.run("write", [write("a")]))[0]) for _ in range(4)]

        assert ["MasterDownError" in error for error in errors] == [True, True, True, False]
        assert "no request is sent to it for a moment" in errors[3]
        await redis_client.close()


async def test_a_silent_primary_of_a_cluster_disturbs_no_user_of_the_others() -> None:
    """Batches have calls of all users, also while the map of slots is read again."""
    with redis_cluster() as servers:
        url = f"redis+cluster://127.0.0.1:{servers[0].port}"
        redis_client = redis_client_for(
            url, timeout_ms=500, budget_ms=1000, breaker=BreakerConfig(3, 0.1)
        )
        calls = [
            RedisCall(("EXISTS", key), key, repeatable=True)
            for key in (user_key(user, SECRET.encode()) for user in USERS)
        ]
        primaries = [primary_of(user, SECRET) for user in USERS]
        assert await redis_client.run("exists", calls) == [0] * len(calls)
        servers[0].pause()  # the server that is asked for the map first
        try:
            results = [await redis_client.run("exists", calls) for _ in range(10)]
        finally:
            servers[0].resume()

        for replies in results:
            for primary, reply in zip(primaries, replies, strict=True):
                failed = isinstance(reply, StoreUnavailable)
                assert failed if primary == 0 else reply == 0, (primary, reply)
        await redis_client.close()


@pytest.mark.long
async def test_a_primary_of_a_cluster_that_its_replica_replaces(trained: TrainedShop) -> None:
    async with cluster_failover(SECRET) as failover, clicker_of(trained, failover) as clicker:
        failover.primary.kill()

        affected = [user for user in USERS if failover.affects(user)]
        others = [user for user in USERS if not failover.affects(user)]
        attempts, stored_again = 0, False
        while not stored_again and attempts < ATTEMPTS:
            attempts += 1
            answers = [await clicker.click(user) for user in others]
            assert all(answer["stored"] for answer in answers)
            stored_again = (await clicker.click(affected[0]))["stored"]
        assert attempts > 1
        for user in affected:
            assert await clicker.click_until_stored(user) == 0
        await clicker.check()
