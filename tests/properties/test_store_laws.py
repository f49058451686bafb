"""Laws of the store, on a real Redis."""

import asyncio
import re
from dataclasses import replace

import pytest
import redis as redis_py

from recsys.errors import StoreUnavailable
from service.feedback.entries import SHARDS
from service.redis_client.client import RedisClient
from service.server.embedded_redis import free_port
from service.store.click import Click
from service.store.session_store import ComputedState, RedisStore, StoredSession, Visit
from service.store.user_keys import keys_before_shards, user_key
from tests.support.redis.chaos_proxy import ChaosProxy, FaultMode
from tests.support.redis.servers import own_redis
from tests.support.redis.stores import redis_client_for, store_on, visit


@pytest.fixture
def store(redis_client: RedisClient) -> RedisStore:
    return store_on(redis_client)


KEY = user_key("ada", b"pepper")


def write_session(client: redis_py.Redis, count: int, *entries: str | bytes) -> None:
    """Write a user's list as another program could."""
    client.rpush(KEY, f"1767225600123456 {count} 0 0", "", "", *entries)
    client.pexpire(KEY, 60_000)


def items(session: StoredSession) -> str:
    return "".join(click.item_id for click in session.clicks)


async def test_a_new_user_has_no_session(store: RedisStore) -> None:
    assert await visit(store, "ada") == StoredSession()


async def test_clicks_come_back_as_they_were_sent_oldest_first(store: RedisStore) -> None:
    sent = [Click("a"), Click("b", "e1"), Click("c", None, 12.5), Click("ü/\x1f", "e2", 1.0)]

    await visit(store, "ada", *sent[:2])
    found = await visit(store, "ada", *sent[2:])

    assert found.clicks == sent
    assert (found.count, found.accepted, found.duplicates) == (4, 2, 0)
    assert found.expires_ms is not None
    assert 55_000 < found.expires_ms <= 60_000


async def test_users_are_kept_apart(store: RedisStore) -> None:
    await visit(store, "ada", Click("a"))

    assert items(await visit(store, "bob", Click("b"))) == "b"


async def test_the_history_keeps_the_last_clicks_and_the_count_never_falls(
    store: RedisStore,
) -> None:
    found = await visit(store, "ada", *map(Click, "abcdefgh"))

    assert (items(found), found.count) == ("defgh", 8)


async def test_an_event_id_is_taken_once(store: RedisStore) -> None:
    first = await visit(store, "ada", Click("a", "e1"))
    again = await visit(store, "ada", Click("a", "e1"), Click("b", "e2"), Click("b", "e2"))

    assert first.accepted == 1
    assert (again.accepted, again.duplicates, items(again)) == (1, 2, "ab")
    assert again.nonce == first.nonce


async def test_only_the_last_event_ids_are_remembered(redis_client: RedisClient) -> None:
    store = store_on(redis_client, event_ids_kept=3)
    for number in range(4):
        await visit(store, "ada", Click("a", f"e{number}"))

    assert (await visit(store, "ada", Click("a", "e3"))).duplicates == 1
    assert (await visit(store, "ada", Click("a", "e0"))).accepted == 1


async def test_reading_changes_nothing(store: RedisStore) -> None:
    written = await visit(store, "ada", Click("a"))
    read = await visit(store, "ada")

    assert replace(read, accepted=1, expires_ms=written.expires_ms) == written


async def test_a_session_ends_when_it_was_idle(redis_client: RedisClient, redis_url: str) -> None:
    store = store_on(redis_client, idle_seconds=1)
    first = await visit(store, "ada", Click("a", "e1"))
    await asyncio.sleep(1.1)

    after = await visit(store, "ada", Click("b"))

    assert items(after) == "b"
    assert after.nonce != first.nonce
    with redis_py.Redis.from_url(redis_url) as client:
        assert all(client.pttl(key) > 0 for key in client.scan_iter("recsys:{*"))


async def keep(store: RedisStore, state: ComputedState) -> int:
    kept, _ = await store.exchange([state], [])
    return kept


async def test_a_state_is_kept_while_the_session_is_what_it_was_computed_from(
    store: RedisStore,
) -> None:
    session = await visit(store, "ada", Click("a"))

    assert await keep(store, ComputedState("ada", session.head, b"state")) == 1
    assert (await visit(store, "ada")).state == b"state"


async def test_a_state_is_dropped_if_a_click_came_first(store: RedisStore) -> None:
    session = await visit(store, "ada", Click("a"))
    await visit(store, "ada", Click("b"))

    assert await keep(store, ComputedState("ada", session.head, b"old")) == 0
    assert (await visit(store, "ada")).state == b""


async def test_forgetting_leaves_nothing_to_read(store: RedisStore) -> None:
    session = await visit(store, "ada", Click("a", "e1"))
    await keep(store, ComputedState("ada", session.head, b"state"))

    await store.forget("ada")

    assert await visit(store, "ada") == StoredSession()


async def test_what_was_under_way_does_not_bring_a_forgotten_user_back(store: RedisStore) -> None:
    session = await visit(store, "ada", Click("a", "e1"))
    await store.forget("ada")

    assert await keep(store, ComputedState("ada", session.head, b"state")) == 0
    late = await visit(store, "ada", Click("a", "e1"))
    assert (late.accepted, late.duplicates, late.clicks) == (0, 1, [])


async def test_a_new_click_after_forgetting_starts_a_new_session(store: RedisStore) -> None:
    before = await visit(store, "ada", Click("a", "e1"))
    await store.forget("ada")

    after = await visit(store, "ada", Click("b", "e2"))

    assert (items(after), after.count) == ("b", 1)
    assert after.nonce != before.nonce


async def test_a_repeat_from_before_the_deletion_is_counted_as_forgotten(store: RedisStore) -> None:
    await visit(store, "ada", Click("a", "e1"))
    await store.forget("ada")
    await visit(store, "ada", Click("b", "e2"))

    again = await visit(store, "ada", Click("a", "e1"), Click("b", "e2"))

    assert (again.duplicates, again.forgotten, items(again)) == (2, 1, "b")


async def test_a_tombstone_outlives_a_short_session(
    redis_client: RedisClient, redis_url: str
) -> None:
    store = store_on(redis_client, idle_seconds=5, tombstone_seconds=60)
    await visit(store, "ada", Click("a", "e1"))
    await store.forget("ada")
    await visit(store, "ada", Click("b", "e2"))

    with redis_py.Redis.from_url(redis_url) as client:
        assert client.pttl(KEY) > 50_000


async def test_a_session_ends_although_its_tombstone_stays(
    redis_client: RedisClient, redis_url: str
) -> None:
    """A repeat of a click of the ended session is a new click."""
    store = store_on(redis_client, idle_seconds=10, tombstone_seconds=600)
    await visit(store, "ada", Click("a", "e1"))
    await store.forget("ada")
    ended = await visit(store, "ada", Click("b", "e2"))
    with redis_py.Redis.from_url(redis_url) as client:
        client.pexpire(KEY, client.pttl(KEY) - 10_000)  # as if 10 s had passed

    assert await visit(store, "ada") == StoredSession()
    again = await visit(store, "ada", Click("b", "e2"), Click("a", "e1"))

    assert (again.accepted, again.duplicates, again.forgotten) == (1, 1, 1)
    assert (items(again), again.count) == ("b", 1)
    assert again.nonce != ended.nonce


async def test_a_tombstone_ends_although_the_session_goes_on(
    redis_client: RedisClient, redis_url: str
) -> None:
    store = store_on(redis_client, idle_seconds=60, tombstone_seconds=10)
    await visit(store, "ada", Click("a", "e1"))
    await store.forget("ada")
    await visit(store, "ada", Click("b", "e2"))
    with redis_py.Redis.from_url(redis_url) as client:
        client.pexpire(KEY, client.pttl(KEY) - 10_000)

    found = await visit(store, "ada", Click("a", "e1"), Click("b", "e2"))

    assert (found.accepted, found.duplicates, found.forgotten) == (1, 1, 0)
    assert items(found) == "ba"


async def test_a_full_redis_stores_no_click_and_deletes_users(redis_url: str) -> None:
    with own_redis() as server, server.client() as client:
        redis_client = redis_client_for(server.url)
        store = store_on(redis_client)
        await visit(store, "ada", Click("a", "e1"))
        client.config_set("maxmemory", 1)

        for click in (Click("b"), Click("b", "e2")):  # also without an event id
            refused = await visit(store, "ada", click)
            assert (refused.refused, items(refused)) == ("OOM", "a")
        await store.forget("ada")

        assert await visit(store, "ada") == StoredSession()
        await redis_client.close()


async def test_data_of_the_layout_before_shards_is_not_read_and_can_be_deleted(
    store: RedisStore, redis_url: str
) -> None:
    """Processes of both versions share one Redis during an upgrade."""
    clicks, state, events = keys_before_shards("ada", b"pepper")
    with redis_py.Redis.from_url(redis_url) as client:
        client.rpush(clicks, "17672256001234561", "a")
        client.set(state, "state")
        client.zadd(events, {"12345678": 1})

        assert await visit(store, "ada") == StoredSession()
        assert (await visit(store, "ada", Click("b"))).count == 1
        assert client.lrange(clicks, 0, -1) == [b"17672256001234561", b"a"]

        await store.forget("ada")
        assert not client.exists(clicks, state, events)


async def test_users_are_spread_over_all_shards(store: RedisStore, redis_url: str) -> None:
    await store.visit([Visit(f"user {number}", (Click("a"),)) for number in range(1000)])

    with redis_py.Redis.from_url(redis_url) as client:
        tags = {re.match(rb"recsys:\{(s\d\d)\}:.{16}$", key) for key in client.scan_iter()}

    assert None not in tags
    assert len({tag.group(1) for tag in tags if tag is not None}) == SHARDS


async def test_every_click_renews_the_whole_session(
    redis_client: RedisClient, redis_url: str
) -> None:
    store = store_on(redis_client, idle_seconds=60)
    session = await visit(store, "ada", Click("a", "e1"))
    await keep(store, ComputedState("ada", session.head, b"state"))
    with redis_py.Redis.from_url(redis_url) as client:
        assert 50_000 < client.pttl(KEY) <= 60_000
        client.pexpire(KEY, 5_000)
        await visit(store, "ada", Click("b", "e2"))
        assert 50_000 < client.pttl(KEY) <= 60_000


async def test_a_damaged_head_is_refused_before_anything_is_written(
    store: RedisStore, redis_url: str
) -> None:
    with redis_py.Redis.from_url(redis_url) as client:
        client.rpush(KEY, "damaged", "", "", '["a"]')
        (found,) = await store.visit([Visit("ada", (Click("b", "e1"),))])
        assert isinstance(found, StoreUnavailable)
        assert client.lrange(KEY, 0, -1) == [b"damaged", b"", b"", b'["a"]']


async def test_no_id_is_stored_in_the_clear_in_a_key(store: RedisStore, redis_url: str) -> None:
    """No value holds a user id. The history holds event ids, because GET returns them."""
    user = "ada@example.org"
    found = await visit(store, user, Click("a", "event-1"), Click("b", "event-2"))
    await store.exchange([ComputedState(user, found.head, b"state")], [])
    await store.forget("ben@example.org")
    await visit(store, "ben@example.org", Click("a", "event-3"))
    await store.forget("ben@example.org")  # leaves a tombstone

    with redis_py.Redis.from_url(redis_url) as client:
        values = {key: client.lrange(key, 0, -1) for key in client.scan_iter()}
    ours = {user_key(name, b"pepper").encode() for name in (user, "ben@example.org")}
    assert values.keys() == ours  # of ben, the tombstone
    stored = [text for value in values.values() for text in value]
    assert sum(len(value[2]) for value in values.values()) == 3 * 8  # three hashed event ids
    for clear in (b"ada", b"ben", b"example.org"):
        assert not [text for text in (*values, *stored) if clear in text]
    hidden = [*values, *(text for value in values.values() for text in value[:3])]
    assert not [text for text in hidden if b"event" in text]


async def test_flushed_scripts_are_loaded_again(store: RedisStore, redis_url: str) -> None:
    await visit(store, "ada", Click("a"))
    with redis_py.Redis.from_url(redis_url) as client:
        client.script_flush()

    assert (await visit(store, "ada", Click("b"))).count == 2


@pytest.mark.parametrize("entry", ["", "[7", "[]", "[7]", b"\xff"])
async def test_a_key_without_a_session_is_reported_and_can_be_deleted(
    store: RedisStore, redis_url: str, entry: str | bytes
) -> None:
    with redis_py.Redis.from_url(redis_url) as client:
        write_session(client, 1, entry)

    (found,) = await store.visit([Visit("ada")])
    assert isinstance(found, StoreUnavailable)

    await store.forget("ada")
    assert (await visit(store, "ada", Click("a"))).count == 1


async def test_limits_out_of_range_write_nothing(redis_client: RedisClient) -> None:
    store = store_on(redis_client)
    await visit(store, "ada", Click("a"))
    store.reserve(10**30)

    found = await store.visit([Visit("ada", [Click("b")])])
    assert isinstance(found[0], StoreUnavailable)

    assert (await visit(store_on(redis_client), "ada")).item_ids == ["a"]


@pytest.mark.parametrize("entry", ["a\x1fnow", "a\x1f1\x1fe\x1fmore"])
async def test_a_damaged_click_with_a_readable_item_is_used_but_not_shown(
    store: RedisStore, redis_url: str, entry: str
) -> None:
    with redis_py.Redis.from_url(redis_url) as client:
        write_session(client, 1, entry)

    found = await visit(store, "ada")

    assert found.item_ids == ["a"]
    with pytest.raises(StoreUnavailable, match="no session"):
        _ = found.clicks


@pytest.mark.parametrize(
    ("clicks", "kept"),
    [([Click("b")], 1000), ([Click("b", "e2"), Click("c", "e3"), Click("d", "e4")], 2)],
    ids=["no event id", "more event ids than are kept"],
)
async def test_clicks_whose_repeat_would_not_be_recognised_are_not_sent_again(
    redis_url: str, clicks: list[Click], kept: int
) -> None:
    """The reply is lost, and the script may have run."""
    async with ChaosProxy(free_port(), int(redis_url.split(":")[2][:-2])) as proxy:
        redis_client = redis_client_for(f"redis://127.0.0.1:{proxy.port}")
        store = store_on(redis_client, event_ids_kept=kept)
        await visit(store, "ada", Click("a", "e1"))
        await proxy.set_mode(FaultMode.CUT_REPLIES)

        (found,) = await store.visit([Visit("ada", clicks)])
        assert isinstance(found, StoreUnavailable)

        await proxy.set_mode(FaultMode.NONE)
        assert (await visit(store, "ada")).count in (1, 1 + len(clicks))
        await redis_client.close()


async def test_many_visits_of_one_round_trip_stay_in_order(store: RedisStore) -> None:
    visits = [Visit(f"user {n % 3}", (Click(str(n)),)) for n in range(12)]

    found = await store.visit(visits)

    for n, session in enumerate(found):
        assert isinstance(session, StoredSession)
        assert session.clicks[-1].item_id == str(n)
        assert session.count == n // 3 + 1
