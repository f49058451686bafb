"""Every form of Redis URL, on servers of that kind, and failures of a cluster."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.crc import key_slot
from redis.exceptions import MovedError

from recsys.errors import StoreUnavailable
from service.app import create_app
from service.feedback.impressions import Impressions
from service.feedback.watch import StreamSizes, StreamWatch
from service.redis_client.client import PING_CALL, RedisClient
from service.redis_client.cluster import SlotMap
from service.redis_client.server import RedisCall
from service.settings import Settings
from service.store.click import Click
from service.store.session_store import ComputedState, StoredSession, Visit
from service.store.user_keys import user_key
from service.trending.counters import Counters, RedisCounters
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.redis.servers import (
    SENTINEL_NAME,
    SLOTS,
    Certificates,
    RedisServer,
    own_redis,
    own_sentinel,
    redis_cluster,
)
from tests.support.redis.stores import redis_client_for, shared_secret_store_on, store_on, visit
from tests.support.service.app_client import PATIENT, client_of

SECRET = b"a pepper of this shop"
USERS = [f"user-{number}" for number in range(30)]
# all that the service needs, as a Redis access list
KEYS = "~recsys:* +evalsha +script|load +ping +get +set +select +cluster|slots +asking"
SCRIPTS = "+del +time +pttl +pexpire +lindex +lpush +rpush +lpop +ltrim +lrange"
COUNTERS = "+zadd +zincrby +zunionstore +zremrangebyscore +zremrangebyrank +zrevrange"
ACL_SENTINEL = "user looker on >pep&per +sentinel|get-master-addr-by-name +sentinel|master"
FEEDBACK = "+xadd +xlen +xrange +memory|usage +info"
SHOP = f"shop on >pep/per {KEYS} {SCRIPTS} {COUNTERS} {FEEDBACK}".split()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.create(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def lasting_members() -> Iterator[list[RedisServer]]:
    with redis_cluster() as servers:
        yield servers


@pytest.fixture
def members(lasting_members: list[RedisServer]) -> list[RedisServer]:
    """Return the servers of an empty cluster."""
    for server in lasting_members:
        with server.client() as client:
            client.flushall()
    return lasting_members


@pytest.fixture
async def cluster(members: list[RedisServer]) -> AsyncIterator[RedisClient]:
    redis_client = redis_client_for(f"redis+cluster://127.0.0.1:{members[0].port}")
    yield redis_client
    await redis_client.close()


async def check_store_at(url: str) -> None:
    """Check that a store with feedback works at this URL, for users in many slots."""
    redis_client, sizes = redis_client_for(url), list[StreamSizes]()
    store = shared_secret_store_on(redis_client, stream_bytes=1_000_000)
    impressions = Impressions(redis_client, 1_000_000, lambda outcome, lists: None)
    for count in (1, 2):
        found = await store.visit([Visit(user, (Click("a"),)) for user in USERS])
        assert [session.count for session in found if isinstance(session, StoredSession)] == [
            count
        ] * len(USERS)
    for session in found:
        assert isinstance(session, StoredSession)
        shown = {"model_id": "m", "source": "model", "items": ["a"]}
        impressions.add(session.key, session.nonce, variant=None, **shown)  # type: ignore[arg-type]
    await impressions.close()
    await store.forget(USERS[0])
    assert (await visit(store, USERS[0])).count == 0
    counters = await RedisCounters(redis_client).exchange(3600, {"a": 3}, lambda: Counters(0, {}))
    assert counters.clicks == {"a": 3}
    assert await redis_client.ping()
    await StreamWatch(redis_client, 1_000_000, sizes.append).read()
    assert [each.entries for each in sizes] == [3 * len(USERS) + 1]  # clicks, lists, a deletion
    await store.close()
    await redis_client.close()


async def check_failure_at(url: str, kind: str) -> None:
    """Check that a store at this URL fails, and that the error names the kind of failure."""
    redis_client = redis_client_for(url)
    (found,) = await shared_secret_store_on(redis_client).visit([Visit("ada")])
    assert isinstance(found, StoreUnavailable)
    assert kind in str(found)
    await redis_client.close()


async def test_a_user_of_an_access_list_and_a_database() -> None:
    with own_redis("--user", *SHOP) as server:
        where = f"127.0.0.1:{server.port}"
        await check_store_at(f"redis://shop:pep%2Fper@{where}/3")
        await check_failure_at(f"redis://shop:salt@{where}/3", "AuthenticationError")
        with server.client() as client:
            client.select(3)
            streams = sum(1 for _ in client.scan_iter("*:feedback"))
            # the users, of one of them a tombstone, the shared secret, and two keys of counters
            assert client.dbsize() == len(USERS) + 3 + streams


async def test_a_password_without_a_user() -> None:
    with own_redis("--requirepass", "pep/per") as server:
        await check_store_at(f"redis://:pep%2Fper@127.0.0.1:{server.port}")
        await check_failure_at(f"redis://127.0.0.1:{server.port}", "AuthenticationError")


async def test_a_socket_file(tmp_path: Path) -> None:
    with own_redis("--unixsocket", str(tmp_path / "redis.sock")):
        await check_store_at(f"unix://{tmp_path}/redis.sock")


@pytest.mark.both_loops
async def test_tls_with_certificates_on_both_sides(certificates: Certificates) -> None:
    trusted = f"ssl_ca_certs={certificates.authority}"
    own = f"ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}"
    with own_redis(tls=certificates) as server:
        where = f"rediss://127.0.0.1:{server.port}"
        await check_store_at(f"{where}?{trusted}&{own}")
        # the system does not know the authority
        await check_failure_at(where, "SSLCertVerificationError")
        # without the certificate that Redis asks for
        redis_client = redis_client_for(f"{where}?{trusted}")
        assert not await redis_client.ping()
        await redis_client.close()


@pytest.mark.both_loops
async def test_a_silent_redis_with_tls_is_reported_within_the_budget(
    certificates: Certificates,
) -> None:
    files = f"ssl_ca_certs={certificates.authority}&ssl_certfile={certificates.certificate}"
    with own_redis(tls=certificates) as server:
        url = f"rediss://127.0.0.1:{server.port}?{files}&ssl_keyfile={certificates.key}"
        redis_client = redis_client_for(url, timeout_ms=1000, budget_ms=2000)
        await wait_for_answer(redis_client)
        with server.client() as client:
            client.execute_command("CLIENT", "PAUSE", "60000", "ALL")
            (error,) = await redis_client.run("ping", [PING_CALL])
            assert isinstance(error, StoreUnavailable)  # without waiting longer than the budget
        server.kill()
        server.start()
        await wait_for_answer(redis_client)
        await redis_client.close()


async def wait_for_answer(redis_client: RedisClient) -> None:
    """Wait until Redis answers, however busy the machine is."""
    async with asyncio.timeout(60):
        while await redis_client.run("ping", [PING_CALL]) != [b"PONG"]:
            await asyncio.sleep(0.05)


async def test_a_cluster_has_users_on_all_its_servers(members: list[RedisServer]) -> None:
    await check_store_at(f"redis+cluster://127.0.0.1:{members[0].port}")
    for server in members:
        with server.client() as client:
            assert client.dbsize() > 1


async def test_a_cluster_is_found_through_any_server_that_answers(
    members: list[RedisServer],
) -> None:
    await check_store_at(f"redis+cluster://127.0.0.1:1,127.0.0.1:{members[2].port}")
    await check_failure_at("redis+cluster://127.0.0.1:1", "SlotNotCovered")


async def test_a_cluster_with_tls(certificates: Certificates) -> None:
    files = f"ssl_ca_certs={certificates.authority}&ssl_certfile={certificates.certificate}"
    with redis_cluster(tls=certificates) as servers:
        where = f"rediss+cluster://127.0.0.1:{servers[0].port}"
        await check_store_at(f"{where}?{files}&ssl_keyfile={certificates.key}")


async def test_a_cluster_whose_servers_do_not_know_their_names() -> None:
    """They send an empty host in their map and in MOVED, which means their own host."""
    with redis_cluster(primaries=2) as servers, ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for server in servers]
        for client in clients:
            if not client.config_get("cluster-preferred-endpoint-type"):
                pytest.skip("The redis-server here is older than 7.0. Install one: make redis.")
            client.config_set("cluster-preferred-endpoint-type", "unknown-endpoint")
        key, other = "recsys:{a}", "recsys:{b}"
        call = RedisCall(("GET", key), key, repeatable=True)
        source = key_slot(key.encode()) * 2 // SLOTS
        assert source != key_slot(other.encode()) * 2 // SLOTS
        redis_client = redis_client_for(f"redis+cluster://127.0.0.1:{servers[0].port}")
        calls = [call, RedisCall(("GET", other), other, repeatable=True)]
        assert await redis_client.run("get", calls) == [None, None]

        name = clients[1 - source].execute_command("CLUSTER", "MYID")
        for client in (clients[1 - source], clients[source]):
            client.execute_command("CLUSTER", "SETSLOT", key_slot(key.encode()), "NODE", name)

        with pytest.raises(MovedError) as moved:
            clients[source].execute_command("GET", key)
        assert moved.value.host == ""
        assert await redis_client.run("get", calls) == [None, None]
        await redis_client.close()


async def test_sentinels_with_their_own_login() -> None:
    with own_redis("--user", *SHOP, "--requirepass", "salt") as server:
        lines = (f"sentinel auth-pass {SENTINEL_NAME} salt", "requirepass salt", ACL_SENTINEL)
        with own_sentinel(server, *lines) as sentinel:
            where = f"127.0.0.1:{sentinel.port}/{SENTINEL_NAME}/3"
            login = "sentinel_username=looker&sentinel_password=pep%26per"
            await check_store_at(f"redis+sentinel://shop:pep%2Fper@{where}?{login}")
            await check_failure_at(f"redis+sentinel://shop:pep%2Fper@{where}", "PrimaryNotFound")
            other = where.replace(SENTINEL_NAME, "another")
            await check_failure_at(
                f"redis+sentinel://shop:pep%2Fper@{other}?{login}", "PrimaryNotFound"
            )


async def test_sentinels_with_tls(certificates: Certificates) -> None:
    files = f"ssl_ca_certs={certificates.authority}&ssl_certfile={certificates.certificate}"
    with (
        own_redis("--tls-replication", "yes", tls=certificates) as server,
        own_sentinel(server, "tls-replication yes", tls=certificates) as sentinel,
    ):
        where = f"127.0.0.1:1,127.0.0.1:{sentinel.port}/{SENTINEL_NAME}"
        url = f"rediss+sentinel://{where}?{files}&ssl_keyfile={certificates.key}"
        await check_store_at(url)


async def test_users_are_found_after_their_keys_have_moved(
    cluster: RedisClient, members: list[RedisServer]
) -> None:
    """First during the migration of a slot, then after it."""
    store = store_on(cluster)
    session = await visit(store, "ada", Click("a", "e1"))
    kept, _ = await store.exchange([ComputedState("ada", session.head, b"a state")], [])
    assert kept == 1
    key = user_key("ada", b"pepper")
    slot = key_slot(key.encode())
    source = slot * len(members) // SLOTS
    target = (source + 1) % len(members)
    with members[source].client() as here, members[target].client() as there:
        names = [client.execute_command("CLUSTER", "MYID") for client in (here, there)]
        there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
        here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
        here.execute_command("MIGRATE", "127.0.0.1", members[target].port, "", 0, 5000, "KEYS", key)
        assert (await visit(store, "ada", Click("b", "e2"))).count == 2

        for client in (there, here):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[1])
        assert (await visit(store, "ada", Click("c", "e3"))).item_ids == ["a", "b", "c"]


async def test_a_server_of_a_cluster_that_fails_degrades_only_its_own_users(
    trained: TrainedShop, members: list[RedisServer]
) -> None:
    """This is the last test with this cluster, because a slot has moved and a server was killed."""
    settings = {
        "redis": f"redis+cluster://127.0.0.1:{members[0].port}",
        "user_id_secret": SECRET.decode(),
        **PATIENT,
        "redis_pause_ms": 100,
    }
    app = create_app(Settings(bundle=trained.bundle, **settings))  # type: ignore[arg-type]
    async with client_of(app) as client:
        first = [await clicked(client, user) for user in USERS]
        assert all(answer["stored"] and not answer["degraded"] for answer in first)

        owners = {user: owner(user, members) for user in USERS}

        members[1].kill()

        for user, at in owners.items():
            answer = await clicked(client, user)
            assert answer["degraded"] is (at == 1), user
            assert answer["stored"] is (at != 1), user
            shown = await client.get(f"/v1/users/{user}")
            assert shown.status_code == (503 if at == 1 else 200)
        for _ in range(600):  # a ping is known for a second
            redis = (await client.get("/health/ready")).json()["redis"]
            if redis == "unavailable":
                break
            await asyncio.sleep(0.05)
        assert redis == "unavailable"

        members[1].start()

        affected = next(user for user, at in owners.items() if at == 1)
        for _ in range(200):
            if (await clicked(client, affected))["stored"]:
                break
            await asyncio.sleep(0.05)
        assert (await clicked(client, affected))["stored"]


def owner(user: str, members: list[RedisServer]) -> int:
    """Return which server has the user's key; an earlier test moved a slot."""
    slot = key_slot(user_key(user, SECRET).encode())
    with members[0].client() as client:
        rows = client.execute_command("CLUSTER", "SLOTS")
    (port,) = [master[1] for first, last, master, *_ in rows if first <= slot <= last]
    return [member.port for member in members].index(port)


async def clicked(client: httpx.AsyncClient, user: str) -> dict[str, Any]:
    body = {"user_id": user, "item_id": "aurora-tent"}
    answer: dict[str, Any] = (await client.post("/v1/recommendations", json=body)).json()
    return answer


def test_a_map_of_slots_has_no_server_for_a_gap() -> None:
    reply = [[5, 9, [b"10.0.0.2", 6379, b"id"]], [0, 2, [None, 6380, b"id"]]]
    found = SlotMap.from_reply(reply, source=("seed", 6379))

    servers = [found.server_of(slot) for slot in (0, 2, 3, 5, 9, 10)]

    here, there = ("seed", 6380), ("10.0.0.2", 6379)
    assert servers == [here, here, None, there, there, None]
