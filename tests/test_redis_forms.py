"""Every form of Redis URL, on servers of that kind: a user's password, TLS, a cluster, its end."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENT, TrainedShop, client_of
from redis.crc import key_slot
from redis.exceptions import MovedError
from redis_servers import (
    SENTINEL_NAME,
    SLOTS,
    Certificates,
    RedisServer,
    own_redis,
    own_sentinel,
    redis_cluster,
)
from stores import link_to, shared_store_on, store_on, visit

from recsys.errors import StoreUnavailable
from service.app import create_app
from service.redis_client import PING_CALL, RedisClient
from service.redis_cluster import SlotMap
from service.redis_server import Call
from service.settings import Settings
from service.store import Click, ComputedState, StoredSession, Visit, user_key

SECRET = b"a pepper of this shop"
USERS = [f"user-{number}" for number in range(30)]
# all that the service needs, as a Redis access list says it
KEYS = "~recsys:* +evalsha +script|load +ping +get +set +select +cluster|slots +asking"
SCRIPTS = "+del +time +pttl +pexpire +lindex +lpush +rpush +lpop +ltrim +lrange"
EVENTS = "+zadd +zscore +zrange +zremrangebyrank"
ACL_SENTINEL = "user looker on >pep&per +sentinel|get-master-addr-by-name +sentinel|master"
SHOP = f"shop on >pep/per {KEYS} {SCRIPTS} {EVENTS}".split()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.made_in(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def lasting_members() -> Iterator[list[RedisServer]]:
    with redis_cluster() as servers:
        yield servers


@pytest.fixture
def members(lasting_members: list[RedisServer]) -> list[RedisServer]:
    """A cluster with nothing in it."""
    for server in lasting_members:
        with server.client() as client:
            client.flushall()
    return lasting_members


@pytest.fixture
async def cluster(members: list[RedisServer]) -> AsyncIterator[RedisClient]:
    link = link_to(f"redis+cluster://127.0.0.1:{members[0].port}")
    yield link
    await link.close()


async def works(url: str) -> None:
    """The whole store does, for users all over the place."""
    link = link_to(url)
    store = shared_store_on(link)
    for count in (1, 2):
        found = await store.visit([Visit(user, (Click("a"),)) for user in USERS])
        assert [session.count for session in found if isinstance(session, StoredSession)] == [
            count
        ] * len(USERS)
    await store.forget(USERS[0])
    assert (await visit(store, USERS[0])).count == 0
    assert await link.ping()
    await link.close()


async def fails_with(url: str, kind: str) -> None:
    link = link_to(url)
    (found,) = await shared_store_on(link).visit([Visit("ada")])
    assert isinstance(found, StoreUnavailable)
    assert kind in str(found)
    await link.close()


async def test_a_user_of_an_access_list_and_a_database() -> None:
    with own_redis("--user", *SHOP) as server:
        where = f"127.0.0.1:{server.port}"
        await works(f"redis://shop:pep%2Fper@{where}/3")
        await fails_with(f"redis://shop:salt@{where}/3", "AuthenticationError")
        with server.client() as client:
            client.select(3)
            assert client.dbsize() == len(USERS)  # one is forgotten, the secret came


async def test_a_password_without_a_user() -> None:
    with own_redis("--requirepass", "pep/per") as server:
        await works(f"redis://:pep%2Fper@127.0.0.1:{server.port}")
        await fails_with(f"redis://127.0.0.1:{server.port}", "AuthenticationError")


async def test_a_socket_file(tmp_path: Path) -> None:
    with own_redis("--unixsocket", str(tmp_path / "redis.sock")):
        await works(f"unix://{tmp_path}/redis.sock")


@pytest.mark.both_loops
async def test_tls_with_certificates_on_both_sides(certificates: Certificates) -> None:
    trusted = f"ssl_ca_certs={certificates.authority}"
    own = f"ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}"
    with own_redis(tls=certificates) as server:
        where = f"rediss://127.0.0.1:{server.port}"
        await works(f"{where}?{trusted}&{own}")
        await fails_with(where, "SSLCertVerificationError")  # whom the system does not know
        link = link_to(f"{where}?{trusted}")  # without what Redis asks for
        assert not await link.ping()
        await link.close()


@pytest.mark.both_loops
async def test_a_silent_redis_behind_tls_is_said_within_the_budget(
    certificates: Certificates,
) -> None:
    files = f"ssl_ca_certs={certificates.authority}&ssl_certfile={certificates.certificate}"
    with own_redis(tls=certificates) as server:
        url = f"rediss://127.0.0.1:{server.port}?{files}&ssl_keyfile={certificates.key}"
        link = link_to(url, timeout_ms=1000, budget_ms=2000)
        await answers(link)
        with server.client() as client:
            client.execute_command("CLIENT", "PAUSE", "60000", "ALL")
            (said,) = await link.run("ping", [PING_CALL])
            assert isinstance(said, StoreUnavailable)  # else it would have been waited for
        server.kill()
        server.start()
        await answers(link)
        await link.close()


async def answers(link: RedisClient) -> None:
    """Wait until Redis answers, however busy the machine is."""
    async with asyncio.timeout(60):
        while await link.run("ping", [PING_CALL]) != [b"PONG"]:
            await asyncio.sleep(0.05)


async def test_a_cluster_has_users_on_all_its_servers(members: list[RedisServer]) -> None:
    await works(f"redis+cluster://127.0.0.1:{members[0].port}")
    for server in members:
        with server.client() as client:
            assert client.dbsize() > 1


async def test_a_cluster_is_found_by_whichever_server_answers(members: list[RedisServer]) -> None:
    await works(f"redis+cluster://127.0.0.1:1,127.0.0.1:{members[2].port}")
    await fails_with("redis+cluster://127.0.0.1:1", "SlotNotCovered")


async def test_a_cluster_with_tls(certificates: Certificates) -> None:
    files = f"ssl_ca_certs={certificates.authority}&ssl_certfile={certificates.certificate}"
    with redis_cluster(tls=certificates) as servers:
        where = f"rediss+cluster://127.0.0.1:{servers[0].port}"
        await works(f"{where}?{files}&ssl_keyfile={certificates.key}")


async def test_a_cluster_whose_servers_do_not_know_their_names() -> None:
    """They send an empty host with their map and with MOVED; it means the server that says so."""
    with redis_cluster(masters=2) as servers, ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for server in servers]
        for client in clients:
            if not client.config_get("cluster-preferred-endpoint-type"):
                pytest.skip("The redis-server here is older than 7.0. Install one: make redis.")
            client.config_set("cluster-preferred-endpoint-type", "unknown-endpoint")
        key, other = "recsys:{a}", "recsys:{b}"
        call = Call(("GET", key), key, repeatable=True)
        source = key_slot(key.encode()) * 2 // SLOTS
        assert source != key_slot(other.encode()) * 2 // SLOTS
        link = link_to(f"redis+cluster://127.0.0.1:{servers[0].port}")
        calls = [call, Call(("GET", other), other, repeatable=True)]
        assert await link.run("get", calls) == [None, None]

        name = clients[1 - source].execute_command("CLUSTER", "MYID")
        for client in (clients[1 - source], clients[source]):
            client.execute_command("CLUSTER", "SETSLOT", key_slot(key.encode()), "NODE", name)

        with pytest.raises(MovedError) as moved:
            clients[source].execute_command("GET", key)
        assert moved.value.host == ""
        assert await link.run("get", calls) == [None, None]
        await link.close()


async def test_sentinels_with_a_login_of_their_own() -> None:
    with own_redis("--user", *SHOP, "--requirepass", "salt") as server:
        lines = (f"sentinel auth-pass {SENTINEL_NAME} salt", "requirepass salt", ACL_SENTINEL)
        with own_sentinel(server, *lines) as sentinel:
            where = f"127.0.0.1:{sentinel.port}/{SENTINEL_NAME}/3"
            login = "sentinel_username=looker&sentinel_password=pep%26per"
            await works(f"redis+sentinel://shop:pep%2Fper@{where}?{login}")
            await fails_with(f"redis+sentinel://shop:pep%2Fper@{where}", "PrimaryNotFound")
            other = where.replace(SENTINEL_NAME, "another")
            await fails_with(f"redis+sentinel://shop:pep%2Fper@{other}?{login}", "PrimaryNotFound")


async def test_sentinels_with_tls(certificates: Certificates) -> None:
    files = f"ssl_ca_certs={certificates.authority}&ssl_certfile={certificates.certificate}"
    with (
        own_redis("--tls-replication", "yes", tls=certificates) as server,
        own_sentinel(server, "tls-replication yes", tls=certificates) as sentinel,
    ):
        where = f"127.0.0.1:1,127.0.0.1:{sentinel.port}/{SENTINEL_NAME}"
        url = f"rediss+sentinel://{where}?{files}&ssl_keyfile={certificates.key}"
        await works(url)


async def test_users_are_followed_to_where_their_keys_have_moved(
    cluster: RedisClient, members: list[RedisServer]
) -> None:
    """First while they are being handed over, then when they have been."""
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


async def test_a_server_of_a_cluster_that_dies_takes_only_its_own_users_along(
    trained: TrainedShop, members: list[RedisServer]
) -> None:
    """The last test of this cluster, which has had its fill then."""
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

        homes = {user: home(user, members) for user in USERS}

        members[1].kill()

        for user, at in homes.items():
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

        lost = next(user for user, at in homes.items() if at == 1)
        for _ in range(200):
            if (await clicked(client, lost))["stored"]:
                break
            await asyncio.sleep(0.05)
        assert (await clicked(client, lost))["stored"]


def home(user: str, members: list[RedisServer]) -> int:
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


def test_a_map_of_slots_knows_its_gaps() -> None:
    reply = [[5, 9, [b"10.0.0.2", 6379, b"id"]], [0, 2, [None, 6380, b"id"]]]
    found = SlotMap.of(reply, asked=("seed", 6379))

    servers = [found.at(slot) for slot in (0, 2, 3, 5, 9, 10)]

    here, there = ("seed", 6380), ("10.0.0.2", 6379)
    assert servers == [here, here, None, there, there, None]
