"""All processes hash user ids with the same secret, also after Redis lost it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
import redis as redis_py

from recsys.errors import StoreUnavailable
from service.redis_client.client import RedisClient
from service.store.click import Click
from service.store.secret import SharedSecret
from service.store.session_store import SECRET_KEY
from tests.support.redis.stores import redis_client_for, shared_secret_store_on, visit

KEY = "a secret"


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(redis_url) as client:
        yield client


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(500):
        if await holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("waited in vain for a condition")


async def test_two_processes_find_the_same_user(redis_client: RedisClient, redis_url: str) -> None:
    other = redis_client_for(redis_url)
    stores = [shared_secret_store_on(redis_client), shared_secret_store_on(other)]

    await asyncio.gather(*(visit(store, "ada", Click("a")) for store in stores))

    assert (await visit(stores[1], "ada")).count == 2
    for store in stores:
        await store.close()
    await other.close()


@pytest.mark.parametrize("replies", [[b"OK", None], [None, None]], ids=str)
async def test_a_value_that_vanishes_while_it_is_read_makes_the_store_unavailable(
    replies: list[object],
) -> None:
    class ForgetfulClient:
        def deadline(self) -> float:
            return 0.0

        async def run(self, *_: object) -> list[object]:
            return replies

    with pytest.raises(StoreUnavailable, match="has no value"):
        await SharedSecret(ForgetfulClient(), KEY).value(0.0)  # type: ignore[arg-type]


async def test_the_value_is_read_from_redis_once(
    redis_client: RedisClient, redis: redis_py.Redis
) -> None:
    secret = SharedSecret(redis_client, KEY)
    value = await secret.value(redis_client.deadline())
    redis.delete(KEY)

    assert await secret.value(redis_client.deadline()) == value
    assert redis.get(KEY) is None


async def test_the_value_is_written_at_once_to_a_redis_that_lost_all_data(
    redis_client: RedisClient, redis: redis_py.Redis
) -> None:
    store = shared_secret_store_on(redis_client)
    await visit(store, "ada", Click("a"))
    value = redis.get(SECRET_KEY)
    redis.flushall()
    redis.script_flush()

    await visit(store, "ada", Click("b"))

    async def is_back() -> bool:
        return redis.get(SECRET_KEY) == value

    await eventually(is_back)
    await store.close()


async def test_a_deleted_value_is_written_again_after_a_while(
    redis_client: RedisClient, redis: redis_py.Redis
) -> None:
    secret = SharedSecret(redis_client, KEY, sync_seconds=0.02)
    value = await secret.value(redis_client.deadline())
    redis.delete(KEY)

    async def is_back() -> bool:
        assert await secret.value(redis_client.deadline()) == value
        return redis.get(KEY) == value

    await eventually(is_back)
    await secret.close()


async def test_the_value_of_another_process_is_adopted(
    redis_client: RedisClient, redis: redis_py.Redis
) -> None:
    secret = SharedSecret(redis_client, KEY, sync_seconds=0.02)
    await secret.value(redis_client.deadline())
    redis.set(KEY, "made by another")

    async def agrees() -> bool:
        return await secret.value(redis_client.deadline()) == b"made by another"

    await eventually(agrees)
    await secret.close()
