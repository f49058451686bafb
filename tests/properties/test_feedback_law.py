"""The law of the feedback: an acknowledged click is in the stream once, and nothing else is."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest
import redis as redis_py
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import StoreUnavailable
from service.feedback.entries import ClickEntry, DeletionEntry, FeedbackEntry, stream_of
from service.redis_client.client import RedisClient
from service.server.embedded_redis import free_port
from service.store.click import Click
from service.store.session_store import RedisStore, StoredSession, Visit
from service.store.user_keys import user_key
from tests.support.redis.chaos_proxy import ChaosProxy, FaultMode
from tests.support.redis.feedback import entries_in
from tests.support.redis.servers import own_redis
from tests.support.redis.stores import redis_client_for, store_on, visit

PLENTY = 1_000_000
NOTHING = -1  # bytes: above the limit also while there is no stream
USERS = ("ada", "ben")
clicks = st.lists(
    st.builds(
        Click,
        st.sampled_from(["a", '"ü/\x1f']),
        st.none() | st.sampled_from(["e1", "e2", "e3"]),
        event_type=st.none() | st.just("cart"),
        list_id=st.none() | st.just("list.7"),
    ),
    max_size=4,
)
users = st.sampled_from(USERS)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["visit", "visit", "visit while full"]), users, clicks),
        st.tuples(st.just("delete"), users, st.just([])),
    ),
    max_size=8,
)


def user_in_stream(user: str) -> str:
    return user_key(user, b"pepper")[-16:]


@dataclass
class PlainLog:
    """What the stream of one user should hold."""

    user: str
    entries: list[FeedbackEntry] = field(default_factory=list)
    known: set[str] = field(default_factory=set)  # event ids; a deletion keeps them for a while
    session_clicks: int = 0

    def click(self, sent: Sequence[Click], nonce: str) -> int:
        """Log the clicks that are new; return their number."""
        before = self.session_clicks
        for click in sent:
            if click.event_id is not None:
                if click.event_id in self.known:
                    continue
                self.known.add(click.event_id)
            self.session_clicks += 1
            self.entries.append(
                ClickEntry(
                    user_in_stream(self.user),
                    nonce,
                    self.session_clicks,
                    click.item_id,
                    click.event_type,
                    click.list_id,
                    variant="b",
                    model_id="model-1",
                )
            )
        return self.session_clicks - before

    def has_new(self, sent: Sequence[Click]) -> bool:
        return any(click.event_id is None or click.event_id not in self.known for click in sent)

    def delete(self) -> None:
        self.session_clicks = 0
        self.entries.append(DeletionEntry(user_in_stream(self.user)))


def test_an_acknowledged_click_is_in_the_stream_once_and_nothing_else_is(redis_url: str) -> None:
    """Repeats, refused clicks and reads leave no entry; deletions leave one each."""
    examples = count()
    with asyncio.Runner() as runner, redis_py.Redis.from_url(redis_url) as redis:
        runner.get_loop()
        client = redis_client_for(redis_url)
        store = store_on(client, stream_bytes=PLENTY)
        full = store_on(client, stream_bytes=NOTHING)

        async def check(number: int, steps: list[tuple[str, str, list[Click]]]) -> None:
            logs = {user: PlainLog(f"{user}-{number}") for user in USERS}
            for what, user, sent in steps:
                log = logs[user]
                if what == "delete":
                    await store.forget(log.user)
                    log.delete()
                    continue
                refused = what == "visit while full" and log.has_new(sent)
                (found,) = await (full if what != "visit" else store).visit(
                    [Visit(log.user, sent, "model-1", "b")]
                )
                assert isinstance(found, StoredSession)
                assert found.refused == ("FEEDBACK" if refused else "")
                accepted = 0 if refused else log.click(sent, found.nonce)
                assert found.accepted == accepted
            for log in logs.values():
                of_shard = entries_in(redis, [stream_of(user_key(log.user, b"pepper"))])
                user = user_in_stream(log.user)
                assert [each for each in of_shard if each.user == user] == log.entries

        @given(steps)
        def law(steps: list[tuple[str, str, list[Click]]]) -> None:
            runner.run(check(next(examples), steps))

        law()
        runner.run(client.close())


@pytest.fixture
def store(redis_client: RedisClient) -> RedisStore:
    return store_on(redis_client, stream_bytes=PLENTY)


async def test_a_limit_stops_clicks_until_the_stream_is_trimmed(
    redis_client: RedisClient, redis_url: str
) -> None:
    """Nothing is half done: a refused visit can be read, and repeated later."""
    store = store_on(redis_client, stream_bytes=20_000)
    stream = stream_of(user_key("ada", b"pepper"))
    with redis_py.Redis.from_url(redis_url) as redis:
        sent = 0
        while not (found := await visit(store, "ada", Click("a", f"e{sent}"))).refused:
            sent += 1
        size = redis.memory_usage(stream)
        again = await visit(store, "ada", Click("a", f"e{sent - 1}"))  # it is stored already
        assert (found.refused, found.count, again.duplicates) == ("FEEDBACK", sent, 1)
        assert redis.xlen(stream) == sent
        assert 20_000 < (size or 0) < 20_000 + 2 * 4096  # one node more

        redis.xtrim(stream, maxlen=0, approximate=False)

        assert (await visit(store, "ada", Click("a", f"e{sent}"))).count == sent + 1
        assert [each.number for each in entries_in(redis) if isinstance(each, ClickEntry)] == [
            sent + 1
        ]


async def test_a_full_redis_logs_no_click_and_logs_deletions() -> None:
    with own_redis() as server, server.client() as redis:
        client = redis_client_for(server.url)
        store = store_on(client, stream_bytes=PLENTY)
        await visit(store, "ada", Click("a", "e1"))
        redis.config_set("maxmemory", 1)

        assert (await visit(store, "ada", Click("b", "e2"))).refused == "OOM"
        await store.forget("ada")
        await store.forget("a stranger")

        entries = entries_in(redis)
        assert len(entries) == 3
        assert [e for e in entries if isinstance(e, ClickEntry) and e.item_id == "b"] == []
        await client.close()


async def test_a_click_whose_reply_was_lost_is_logged_once_when_it_is_sent_again(
    redis_url: str,
) -> None:
    """The script may have run at the first attempt, at the second one, or not."""
    async with ChaosProxy(free_port(), int(redis_url.split(":")[2][:-2])) as proxy:
        client = redis_client_for(f"redis://127.0.0.1:{proxy.port}")
        store = store_on(client, stream_bytes=PLENTY)
        await visit(store, "ada")
        await proxy.set_mode(FaultMode.CUT_REPLIES)
        (lost,) = await store.visit([Visit("ada", (Click("a", "e1"),))])
        await proxy.set_mode(FaultMode.NONE)
        again = await visit(store, "ada", Click("a", "e1"))
        await client.close()

    assert isinstance(lost, StoreUnavailable)
    assert again.accepted + again.duplicates == 1
    with redis_py.Redis.from_url(redis_url) as redis:
        assert len(entries_in(redis)) == 1


async def test_a_damaged_stream_or_session_leaves_nothing_half_done(
    store: RedisStore, redis_url: str
) -> None:
    key = user_key("ada", b"pepper")
    with redis_py.Redis.from_url(redis_url) as redis:
        redis.set(stream_of(key), "not a stream")
        (found,) = await store.visit([Visit("ada", (Click("a"),))])
        assert isinstance(found, StoreUnavailable)
        assert redis.exists(key) == 0

        redis.delete(stream_of(key))
        redis.set(key, "no session")
        (found,) = await store.visit([Visit("ada", (Click("a"),))])
        assert isinstance(found, StoreUnavailable)
        assert entries_in(redis) == []


async def test_without_feedback_the_calls_are_as_before(
    redis_client: RedisClient, redis_url: str
) -> None:
    store = store_on(redis_client)
    await visit(store, "ada", Click("a", "e1", list_id="list.7"))
    await store.forget("a stranger")

    with redis_py.Redis.from_url(redis_url) as redis:
        assert list(redis.scan_iter()) == [user_key("ada", b"pepper").encode()]
