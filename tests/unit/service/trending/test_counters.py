"""Counters in Redis decay by its clock, are shared, and stay few."""

from collections.abc import Sequence

import pytest
import redis as redis_py

from service.redis_client.client import RedisClient
from service.trending import counters as module
from service.trending.counters import Counters, RedisCounters

HOUR = 3600
SECOND = 1
KEY = f"recsys:{{trending}}:{HOUR}"


@pytest.fixture
def counters(redis_client: RedisClient) -> RedisCounters:
    return RedisCounters(redis_client)


def nothing() -> Counters:
    return Counters(0, {})


async def test_a_click_counts_half_after_a_half_life(counters: RedisCounters) -> None:
    """The clock of Redis goes on between the calls, by how much their answers say."""
    clicks = [{"a": 3, "b": 1}, {"a": 1}, {}, {"b": 5, "ü/\x1f": 2}]

    answers = [await counters.exchange(SECOND, added, nothing) for added in clicks]

    last = answers[-1]
    expected = {
        item: sum(
            added.get(item, 0) * 2 ** ((answer.at_ms - last.at_ms) / 1000)
            for added, answer in zip(clicks, answers, strict=True)
        )
        for item in ("a", "b", "ü/\x1f")
    }
    assert last.clicks == pytest.approx(expected)
    assert list(last.clicks) == sorted(expected, key=lambda item: -expected[item])


async def test_the_first_call_brings_the_counts_of_training(counters: RedisCounters) -> None:
    """Counts of a time that has not come yet, for the clock of Redis, do not grow."""
    first = await counters.exchange(HOUR, {"a": 1}, lambda: Counters(4_000_000_000_000, {"a": 2}))
    later = await counters.exchange(HOUR, {}, lambda: Counters(first.at_ms, {"b": 9}))

    assert first.clicks == pytest.approx({"a": 3})
    assert later.clicks == pytest.approx({"a": 3}, rel=1e-2)


async def test_counts_of_training_are_as_old_as_the_training(counters: RedisCounters) -> None:
    now = (await counters.exchange(SECOND, {}, nothing)).at_ms

    begun = await counters.exchange(HOUR, {}, lambda: Counters(now - 7_200_000, {"a": 8}))

    assert begun.clicks == pytest.approx({"a": 8 / 4}, rel=1e-2)


async def test_processes_count_together_and_each_half_life_apart(
    counters: RedisCounters, redis_client: RedisClient
) -> None:
    other = RedisCounters(redis_client)

    await counters.exchange(HOUR, {"a": 1}, nothing)
    together = await other.exchange(HOUR, {"a": 1, "b": 1}, nothing)
    apart = await other.exchange(2 * HOUR, {}, nothing)

    assert together.clicks == pytest.approx({"a": 2, "b": 1}, rel=1e-2)
    assert apart.clicks == {}


async def test_counters_keep_their_meaning_when_the_origin_moves(
    counters: RedisCounters, redis_url: str
) -> None:
    """After 101 half-lives, counters of 2^101 are clicks of now; they get an origin of now."""
    now = (await counters.exchange(HOUR, {}, nothing)).at_ms
    with redis_py.Redis.from_url(redis_url) as redis:
        redis.set(f"{KEY}:origin", now - 101 * 3_600_000)
        redis.zadd(KEY, {"a": 6 * 2.0**101, "b": 2.0**90})

        moved = await counters.exchange(HOUR, {"a": 1}, nothing)

        assert moved.clicks == pytest.approx({"a": 7}, rel=1e-2)  # b has less than 1/64
        assert redis.zscore(KEY, "a") == pytest.approx(7, rel=1e-2)
        assert float(redis.get(f"{KEY}:origin") or 0) >= now
        assert {redis.ttl(key) > 0 for key in (KEY, f"{KEY}:origin")} == {True}


async def test_so_many_counters_are_kept(
    counters: RedisCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    monkeypatch.setattr(module, "RETURNED", 2)

    first = await counters.exchange(HOUR, {"a": 4, "b": 3, "c": 2, "d": 1}, nothing)
    monkeypatch.setattr(module, "RETURNED", 9)

    kept: Sequence[str] = list((await counters.exchange(HOUR, {}, nothing)).clicks)
    assert (list(first.clicks), kept) == (["a", "b"], ["a", "b", "c"])


async def test_a_lost_origin_makes_counters_begin_anew(
    counters: RedisCounters, redis_url: str
) -> None:
    """Counters without their origin mean nothing; Redis may evict one key and keep the other."""
    await counters.exchange(HOUR, {"a": 4}, nothing)
    with redis_py.Redis.from_url(redis_url) as redis:
        redis.delete(f"{KEY}:origin")

    anew = await counters.exchange(HOUR, {"b": 1}, nothing)

    assert anew.clicks == pytest.approx({"b": 1})
