"""The sizes of the streams are metrics, and the log says what Redis may lose."""

import asyncio
import logging

import pytest
import redis as redis_py

from service.feedback.entries import DeletionEntry, stream_key
from service.feedback.watch import StreamSizes, StreamWatch
from service.redis_client.client import RedisClient
from tests.support.redis.servers import own_redis
from tests.support.redis.stores import redis_client_for
from tests.support.service.app_client import ClientOf


async def test_sizes_are_those_of_all_streams_and_of_the_fullest(
    redis_client: RedisClient, redis_url: str
) -> None:
    found: list[StreamSizes] = []
    watch = StreamWatch(redis_client, 8_000, found.append)
    with redis_py.Redis.from_url(redis_url) as redis:
        await watch.read()
        now, _ = redis.time()
        fields = DeletionEntry("u").fields()
        redis.xadd(stream_key(3), fields, id=f"{1000 * now - 60_000}-0")
        redis.xadd(stream_key(3), fields)
        redis.xadd(stream_key(7), fields)
        await watch.read()
        sizes = [redis.memory_usage(stream_key(shard)) or 0 for shard in (3, 7)]
        redis.xtrim(stream_key(3), maxlen=1, approximate=False)
        redis.delete(stream_key(7))
        await watch.read()

    empty, full, trimmed = found
    assert empty == StreamSizes(0, 0, 0.0, 0.0)
    assert (full.entries, full.stream_bytes) == (3, sum(sizes))
    assert full.fullest == max(sizes) / 8_000
    assert 60 <= full.oldest_seconds < 100
    assert (trimmed.entries, trimmed.oldest_seconds < 40) == (1, True)


async def test_the_log_says_once_what_redis_may_lose(caplog: pytest.LogCaptureFixture) -> None:
    with own_redis() as server, server.client() as redis:
        client = redis_client_for(server.url)
        redis.config_set("maxmemory-policy", "allkeys-lru")
        redis.config_set("appendonly", "yes")

        async def warnings() -> str:
            caplog.clear()
            watch = StreamWatch(client, 1_000_000, lambda sizes: None)
            with caplog.at_level(logging.WARNING, "recsys.service"):
                await watch.read()
                first = caplog.text
                await watch.read()
            assert caplog.text == first
            return first

        assert await warnings() == ""  # without a limit nothing is evicted
        redis.config_set("maxmemory", "100mb")
        assert "policy is allkeys-lru. Set" in await warnings()
        redis.config_set("maxmemory-policy", "volatile-ttl")
        redis.config_set("appendonly", "no")
        assert "no append-only file" in await warnings()
        redis.acl_setuser("default", commands=["-info"])
        assert "did not answer INFO" in await warnings()
        await client.close()


async def test_the_service_shows_the_sizes(open_client: ClientOf, redis_url: str) -> None:
    with redis_py.Redis.from_url(redis_url) as redis:
        redis.xadd(stream_key(0), DeletionEntry("u").fields())
    async with open_client(feedback="stream") as client:
        for _ in range(1000):
            text = (await client.get("/metrics")).text
            if "recsys_feedback_entries 1.0" in text:
                return
            await asyncio.sleep(0.01)
    raise AssertionError("waited in vain for the metrics")
