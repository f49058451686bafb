"""Random bytes under a user's key degrade the answers for that user only."""

import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.app import create_app
from service.settings import Settings
from service.store.user_keys import user_key
from tests.support.bundles.trained_shop import TrainedShop
from tests.support.service.app_client import PATIENT, client_of

SECRET = "a-secret-of-these-tests"
NONCE = "1767225600123456"
ITEM = "aurora-tent"
COUNTS = ["1e300", "inf", "nan", "-1", "", "0x10", "99999999999999999999", "1 ", "1.5", "two"]
COUNTED = [f"{NONCE} {count} 0 0" for count in COUNTS]
TEXTS = st.binary(max_size=40)
HEADS = st.one_of(
    st.sampled_from([f"{NONCE} 1 0 0", f"{NONCE} 3 1 0", f"{NONCE} 1 0 -5", " 0 1 60000", NONCE]),
    st.sampled_from(COUNTED),
    st.builds("{} {} {} {}".format, st.just(NONCE), *[st.integers()] * 3),
    TEXTS,
)
LISTS = st.builds(
    lambda head, state, events, entries: [head, state, events, *entries],
    HEADS,
    TEXTS,
    TEXTS | st.binary(min_size=8, max_size=8) | st.just(b""),
    st.lists(TEXTS | st.just(ITEM.encode()), max_size=4),
)
DAMAGE = st.one_of(
    st.tuples(st.just("rpush"), LISTS | st.lists(TEXTS, min_size=1, max_size=5)),
    st.tuples(st.just("set"), TEXTS),
    st.tuples(st.just("sadd"), TEXTS),
)


@pytest.fixture
async def client(trained: TrainedShop, redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    given: dict[str, Any] = {
        "bundle": trained.bundle,
        "redis": redis_url,
        "user_id_secret": SECRET,
        **PATIENT,
    }
    async with client_of(create_app(Settings(**given))) as client:
        yield client


def damage(redis: redis_py.Redis, user: str, kind: str, value: Any) -> None:
    key = user_key(user, SECRET.encode())
    redis.delete(key)
    values = value if isinstance(value, list) else [value]
    getattr(redis, kind)(key, *values)
    redis.pexpire(key, 60_000)


async def check_calls(client: httpx.AsyncClient, name: str) -> None:
    """Request lists of the damaged user and of another in one batch; check both."""
    requests = [
        {"user_id": user, "item_id": ITEM, "event_id": os.urandom(8).hex()}
        for user in ("sound", name, "sound", name)
    ]
    answer = await client.post("/v1/recommendations:batch", json={"requests": requests})
    assert answer.status_code == 200, answer.text
    sound = answer.json()["responses"][::2]
    assert [(found["stored"], found["degraded"]) for found in sound] == [(True, False)] * 2
    assert (await client.get(f"/v1/users/{name}")).status_code in (200, 503)
    assert (await client.delete(f"/v1/users/{name}")).status_code == 204
    again = (await client.post("/v1/recommendations", json=requests[1])).json()
    assert not again["degraded"], "a deletion repairs the user"


@given(found=DAMAGE)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_random_bytes_under_our_keys_harm_no_other_user(
    client: httpx.AsyncClient, redis_url: str, found: tuple[str, Any]
) -> None:
    with redis_py.Redis.from_url(redis_url) as redis:
        damage(redis, "damaged", *found)
        await check_calls(client, "damaged")


@pytest.mark.parametrize("head", COUNTED)
async def test_a_malformed_count_degrades_its_user_only(
    client: httpx.AsyncClient, redis_url: str, head: str
) -> None:
    with redis_py.Redis.from_url(redis_url) as redis:
        damage(redis, "ada", "rpush", [head, "", "", ITEM])

    requests = [{"user_id": user, "item_id": ITEM} for user in ("ben", "ada", "cem")]
    answer = await client.post("/v1/recommendations:batch", json={"requests": requests})

    assert answer.status_code == 200
    found = answer.json()["responses"]
    assert [each["stored"] for each in found] == [True, False, True]
    assert [each["degraded"] for each in found] == [False, True, False]


@pytest.mark.parametrize("kind", ["set", "sadd", "hset", "zadd"])
async def test_a_key_of_another_type_is_a_503_and_can_be_deleted(
    client: httpx.AsyncClient, redis_url: str, kind: str
) -> None:
    values = {"hset": ["field", "value"], "zadd": [{"member": 1.0}]}.get(kind, ["text"])
    with redis_py.Redis.from_url(redis_url) as redis:
        damage(redis, "ada", kind, values)

    response = await client.get("/v1/users/ada")
    assert response.status_code == 503
    assert "holds no session" in response.json()["detail"]
    await check_calls(client, "ada")
