"""After a failover clicks are stored again and none is lost, whichever way leads to Redis.

Real servers and sentinels. The tests count answers by what they say, and wait as long as it takes;
`python tests/soak/run.py failover` measures the times.
"""

import asyncio
from typing import Any

import httpx
import pytest

from recsys.errors import StoreUnavailable
from service.app import create_app
from service.redis_client.breaker import BreakerConfig
from service.redis_client.server import RedisCall, Script
from service.server.embedded_redis import free_port
from service.settings import Settings
from service.store.session_store import user_key
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.redis.chaos_proxy import ChaosProxy
from tests.support.redis.servers import (
    RedisServer,
    redis_cluster,
    redis_pair,
    redis_sentinels,
    sentinel_url,
    wait_until,
)
from tests.support.redis.stores import home_of, link_to
from tests.support.service.app_client import PATIENT, client_of

SECRET = "a pepper of this shop"
USERS = [f"user-{number}" for number in range(12)]
ITEM = "aurora-tent"
KEPT = 2  # clicks, at least, of a user
LOOKS, LOOK_SECONDS = 1200, 0.05  # how often an answer is asked for until it must have come
WRITE = Script(
    """
    local done = redis.pcall('SET', KEYS[1], ARGV[1])
    local code = done.err and string.match(done.err, '%u%u+') or ''
    return { code, redis.call('GET', KEYS[1]) }
    """,
    refusal=lambda reply: reply[0].decode() or None,
)


def write(value: str) -> RedisCall:
    return WRITE.call(["recsys:{a}:test"], [value], repeatable=True)


class Clicker:
    """Clicks of users, each with an event id of its own, and what was said of them."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._sent = 0
        self.stored: dict[str, list[str]] = {}

    async def click(self, user: str) -> dict[str, Any]:
        """Send a click; every answer must be a list, whatever happens to Redis."""
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
        for refused in range(LOOKS):
            if (await self.click(user))["stored"]:
                return refused
            await asyncio.sleep(LOOK_SECONDS)
        raise AssertionError(f"no click of {user} was stored again")

    async def check(self) -> None:
        """The last clicks that were said to be stored are there, once, in order."""
        for user, events in self.stored.items():
            shown = await self._client.get(f"/v1/users/{user}")
            there = [click["event_id"] for click in shown.json()["clicks"]]
            assert len(there) == len(set(there))
            found = [event for event in there if event in events]
            assert found == events[-len(found) :], user
            assert len(found) >= min(len(events), KEPT), user


def settings_of(trained: TrainedShop, url: str) -> Settings:
    given = {"redis": url, "user_id_secret": SECRET, **PATIENT, "redis_timeout_ms": 500}
    given |= {"redis_budget_ms": 1000, "redis_pause_ms": 200}
    return Settings(bundle=trained.bundle, **given)  # type: ignore[arg-type]


def in_step(primary: RedisServer) -> None:
    """Wait until its replica has all that it has."""
    with primary.client() as client:
        wait_until(lambda: client.wait(1, 1000) == 1, "the replica has acknowledged")


async def test_a_primary_that_the_sentinels_replace(trained: TrainedShop) -> None:
    with redis_pair() as (primary, _), redis_sentinels(primary) as sentinels:
        app = create_app(settings_of(trained, sentinel_url(sentinels)))
        async with client_of(app) as client:
            clicker = Clicker(client)
            for user in USERS:
                assert await clicker.click_until_stored(user) == 0
            await asyncio.to_thread(in_step, primary)

            primary.kill()

            assert await clicker.click_until_stored("ada") > 0
            for user in USERS:
                assert (await clicker.click(user))["stored"]
            await clicker.check()


@pytest.mark.both_loops
async def test_an_address_that_leads_to_another_server_after_its_own_was_demoted() -> None:
    """The connections there are stay with the demoted one, which answers reads."""
    with redis_pair() as (old, new), old.client() as demoted, new.client() as promoted:
        async with ChaosProxy(free_port(), old.port) as gremlin:
            link = link_to(f"redis://127.0.0.1:{gremlin.port}")
            assert await link.run("write", [write("a")]) == [[b"", b"a"]]
            promoted.replicaof("NO", "ONE")
            demoted.replicaof("127.0.0.1", str(new.port))
            gremlin.lead_to(new.port)

            said: list[Any] = await link.run("write", [write("b")])
            while said[-1][0] and len(said) < LOOKS:
                await asyncio.sleep(LOOK_SECONDS)
                said += await link.run("write", [write("b")])

            assert said[0] == [b"READONLY", b"a"]
            assert said[-1] == [b"", b"b"]
            assert promoted.get("recsys:{a}:test") == b"b"
            await link.close()


async def test_a_replica_is_connected_to_again_once_a_second() -> None:
    """By READONLY in a reply and in an error; other refusals keep the connection."""
    now = 100.0
    with redis_pair() as (primary, replica), primary.client() as client:
        link = link_to(replica.url, clock=lambda: now)
        writes = [write("a"), RedisCall(("SET", "recsys:b", "c"), "recsys:b", repeatable=True)]

        async def connections(calls: list[RedisCall]) -> set[Any]:
            who = RedisCall(("CLIENT", "ID"), "", repeatable=True)
            return {(await link.run("who", [*calls, who]))[-1] for _ in range(5)}

        for call in writes:
            now += 1.0
            before = await connections([])
            first = await connections([call])
            assert await connections([call]) == first - before  # the clock stands still
            now += 1.0
            assert len(await connections([call]) | first) == len(first) + 1
        await link.close()

        link = link_to(primary.url, clock=lambda: now)
        client.config_set("min-replicas-to-write", 5)
        assert await link.run("write", [write("a")]) == [[b"NOREPLICAS", None]]
        assert len(await connections([write("a")])) == 1
        client.config_set("min-replicas-to-write", 0)
        client.config_set("maxmemory", 1)
        assert await link.run("write", [write("a")]) == [[b"OOM", None]]
        assert len(await connections([write("a")])) == 1
        await link.close()


async def test_a_replica_that_has_lost_its_primary_is_left_alone() -> None:
    with redis_pair("--replica-serve-stale-data", "no") as (primary, replica):
        link = link_to(replica.url)
        primary.kill()
        with replica.client() as client:
            wait_until(
                lambda: client.info("replication")["master_link_status"] == "down", "it noticed"
            )

        said = [str((await link.run("write", [write("a")]))[0]) for _ in range(4)]

        assert ["MasterDownError" in sentence for sentence in said] == [True, True, True, False]
        assert "is not asked for a moment" in said[3]
        await link.close()


async def test_a_silent_primary_of_a_cluster_disturbs_no_user_of_the_others() -> None:
    """In batches with calls of all users, also while the map of slots is learned again."""
    with redis_cluster() as servers:
        url = f"redis+cluster://127.0.0.1:{servers[0].port}"
        link = link_to(url, timeout_ms=500, budget_ms=1000, breaker=BreakerConfig(3, 0.1))
        calls = [
            RedisCall(("EXISTS", key), key, repeatable=True)
            for key in (user_key(user, SECRET.encode()) for user in USERS)
        ]
        homes = [home_of(user, SECRET) for user in USERS]
        assert await link.run("exists", calls) == [0] * len(calls)
        servers[0].pause()  # the one that is asked for the map first
        try:
            said = [await link.run("exists", calls) for _ in range(10)]
        finally:
            servers[0].resume()

        for found in said:
            for at, reply in zip(homes, found, strict=True):
                assert isinstance(reply, StoreUnavailable) if at == 0 else reply == 0, (at, reply)
        await link.close()


async def test_a_primary_of_a_cluster_that_its_replica_replaces(trained: TrainedShop) -> None:
    with redis_cluster(replicas=True) as servers:
        url = ",".join(f"127.0.0.1:{server.port}" for server in servers[:3])
        app = create_app(settings_of(trained, f"redis+cluster://{url}"))
        async with client_of(app) as client:
            clicker = Clicker(client)
            for user in USERS:
                assert await clicker.click_until_stored(user) == 0
            await asyncio.to_thread(in_step, servers[1])

            servers[1].kill()

            lost = [user for user in USERS if home_of(user, SECRET) == 1]
            others = [user for user in USERS if home_of(user, SECRET) != 1]
            looks, again = 0, False
            while not again and looks < LOOKS:
                looks += 1
                answers = [await clicker.click(user) for user in others]
                assert all(answer["stored"] for answer in answers)
                again = (await clicker.click(lost[0]))["stored"]
            assert looks > 1
            for user in lost:
                assert await clicker.click_until_stored(user) == 0
            await clicker.check()
