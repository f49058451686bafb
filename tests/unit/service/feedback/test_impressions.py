"""Lists get ids and are logged; losses are counted."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
import redis as redis_py
from pydantic import ValidationError

from recsys_client.schemas import RecommendationRequest, Recommendations
from service.feedback import impressions as module
from service.feedback.entries import (
    SHARDS,
    ClickEntry,
    DeletionEntry,
    FeedbackEntry,
    ImpressionEntry,
    impression_data,
    stream_of,
)
from service.feedback.impressions import Impressions
from service.feedback.limits import StreamLimits
from service.redis_client.client import RedisClient
from service.server.embedded_redis import free_port
from service.store.click import Click
from service.store.user_keys import user_key
from tests.support.redis.feedback import entries_in
from tests.support.redis.stores import redis_client_for, store_on, visit
from tests.support.service.app_client import ClientOf

TENT, BAG = "aurora-tent", "aurora-sleeping-bag"
SECRET = "a-secret-of-these-tests"
KEY = user_key("ada", b"pepper")


class Counted:
    """Impressions, and the outcomes that they counted."""

    def __init__(self, client: RedisClient, stream_bytes: int = 1_000_000) -> None:
        self.outcomes: Counter[str] = Counter()
        self.impressions = Impressions(client, stream_bytes, self._count)

    def _count(self, outcome: str, lists: int) -> None:
        self.outcomes[outcome] += lists

    def add(self, key: str = KEY, nonce: str = "") -> str:
        details: dict[str, Any] = {"model_id": "m", "variant": None, "source": "model"}
        return self.impressions.add(key, nonce, items=["a", "b"], **details)

    async def flush(self) -> dict[str, int]:
        """Log what waits; return the outcomes so far, without zeros."""
        await self.impressions.close()
        return dict(+self.outcomes)


async def test_lists_are_logged_in_their_order_and_their_ids_count_up(
    redis_client: RedisClient, redis_url: str
) -> None:
    counted = Counted(redis_client)
    ids = [counted.add() for _ in range(3)]
    assert await counted.flush() == {"logged": 3}

    prefix = ids[0].rpartition(".")[0]
    assert ids == [f"{prefix}.{number}" for number in range(3)]
    assert prefix != Counted(redis_client).add().rpartition(".")[0]
    with redis_py.Redis.from_url(redis_url) as redis:
        assert entries_in(redis) == [
            ImpressionEntry(KEY[-16:], "", list_id, "m", None, "model", ("a", "b"))
            for list_id in ids
        ]


async def test_lists_are_logged_soon_without_another_request(
    redis_client: RedisClient, redis_url: str
) -> None:
    counted = Counted(redis_client)
    counted.add()

    with redis_py.Redis.from_url(redis_url) as redis:
        for _ in range(1000):
            if entries_in(redis, [stream_of(KEY)]):
                return
            await asyncio.sleep(0.01)
    raise AssertionError("waited in vain for the impression")


async def test_streams_take_turns_and_no_list_waits_longer_than_the_flush_takes(
    redis_client: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists that come while others are logged are logged, too, each once."""
    slept: list[float] = []
    logged: list[int] = []
    counted = Counted(redis_client)
    keys = [f"recsys:{{s{shard:02d}}}:{'a' * 16}" for shard in range(SHARDS)]
    run, sleep = redis_client.run, asyncio.sleep

    async def counting(name: str, calls: Any) -> Any:
        logged.append(len(calls))
        if len(logged) == 1:
            counted.add(keys[0])  # its turn is the first, which is over
        return await run(name, calls)

    async def waiting(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(redis_client, "run", counting)
    monkeypatch.setattr(asyncio, "sleep", waiting)
    for key in keys:
        counted.add(key)
    outcomes = await counted.flush()

    assert outcomes == {"logged": SHARDS + 1}
    turns = [len(range(turn, SHARDS, module.TURNS)) for turn in range(module.TURNS)]
    assert logged[: module.TURNS + 1] == [*turns, 1]
    assert max(slept) <= (module.TURNS + 1) * module.FLUSH_SECONDS / module.TURNS


async def test_no_list_of_before_a_deletion_follows_it(redis_client: RedisClient) -> None:
    """A list waits in one process while another process deletes the user."""
    store, counted = store_on(redis_client, stream_bytes=1_000_000), Counted(redis_client)
    session = await visit(store, "ada", Click("a"))
    stranger = user_key("ben", b"pepper")
    counted.add(KEY, session.nonce)
    counted.add(stranger)
    await store.forget("ada")
    await store.forget("ben")
    assert await counted.flush() == {"ended": 2}

    new = await visit(store, "ada", Click("b"))
    counted.add(KEY, session.nonce)  # of the session before
    counted.add(KEY, new.nonce)
    assert await counted.flush() == {"ended": 3, "logged": 1}

    counted.add(stranger)
    await store.forget("ben")
    await visit(store, "ben", Click("a"))  # a new session begins before the list is logged
    assert await counted.flush() == {"ended": 4, "logged": 1}


async def test_a_deletion_is_logged_while_feedback_is_off_if_it_was_on_before(
    redis_client: RedisClient, redis_url: str
) -> None:
    """The events folder may hold clicks of the user, which the next compaction has to remove."""
    without = store_on(redis_client)
    with redis_py.Redis.from_url(redis_url) as redis:
        await without.forget("ada")
        assert not redis.exists(stream_of(KEY))  # feedback was never on
        await visit(store_on(redis_client, stream_bytes=1_000_000), "ada", Click("a"))
        await without.forget("ada")
        _, deleted = entries_in(redis, [stream_of(KEY)])
    assert deleted == DeletionEntry(KEY[-16:])


async def test_a_list_of_before_the_first_click_is_logged(redis_client: RedisClient) -> None:
    counted = Counted(redis_client)
    counted.add()
    await visit(store_on(redis_client), "ada", Click("a"))

    assert await counted.flush() == {"logged": 1}


async def test_what_a_full_stream_or_process_or_redis_loses_is_counted(
    redis_client: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(redis_client, stream_bytes=0)
    counted.add()
    assert await counted.flush() == {"logged": 1}  # the stream is above the limit from now on
    for _ in range(2):
        counted.add()
    assert await counted.flush() == {"logged": 1, "full": 2}

    nowhere = redis_client_for(f"redis://127.0.0.1:{free_port()}")
    away = Counted(nowhere)
    away.add()
    assert await away.flush() == {"unavailable": 1}
    await nowhere.close()

    size = len(impression_data(f"{'x' * 8}.0", "m", None, "model", ["a", "b"]))
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 2 * size)
    small = Counted(redis_client)
    for _ in range(3):
        small.add()
    assert await small.flush() == {"waiting": 1, "logged": 2}
    small.add()
    assert await small.flush() == {"waiting": 1, "logged": 3}


def test_a_quarter_of_the_limit_is_for_clicks() -> None:
    limits = StreamLimits.of_megabytes(64)

    assert (limits.clicks, limits.impressions) == (1_000_000, 750_000)


async def ask(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/recommendations", json={"k": 2, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_every_list_and_click_of_a_user_is_logged_and_no_other(
    open_client: ClientOf, redis_url: str
) -> None:
    """All calls that record clicks or answer lists, with and without a user or consent."""
    settings = {"feedback": "stream", "user_id_secret": SECRET}
    async with open_client(**settings) as client:
        assert "list_id" not in await ask(client, items=[TENT])
        assert "list_id" not in await ask(client, user_id="eve", item_id=TENT, consent=False)
        refused = {"clicks": [{"item_id": TENT, "list_id": "l"}], "consent": False}
        await client.post("/v1/users/eve/clicks", json=refused)

        read = (await client.get("/v1/users/ada/recommendations?k=2")).json()
        clicked = await ask(
            client, user_id="ada", item_id=TENT, event_id="e1", list_id=read["list_id"]
        )
        repeat = await ask(client, user_id="ada", item_id=TENT, event_id="e1", list_id="other")
        batch = {"requests": [{"user_id": "ada", "item_id": BAG, "list_id": "?" * 128, "k": 2}]}
        batched = (await client.post("/v1/recommendations:batch", json=batch)).json()
        several = {"clicks": [{"item_id": BAG, "event_type": "cart", "list_id": "l"}]}
        await client.post("/v1/users/ada/clicks", json=several)
        model_id = (await client.get("/v1/model")).json()["model_id"]

    key = user_key("ada", SECRET.encode())
    with redis_py.Redis.from_url(redis_url) as redis:
        entries = entries_in(redis)
        assert [len(entries), redis.exists(user_key("eve", SECRET.encode()))] == [7, 0]
    lists = [each for each in entries if isinstance(each, ImpressionEntry)]
    clicks = [each for each in entries if isinstance(each, ClickEntry)]
    session = clicks[0].session
    answers = [read, clicked, repeat, *batched["responses"]]
    for answer in answers:
        schema = Recommendations.model_validate(answer)
        assert schema.model_dump(exclude_unset=True) == answer
    assert lists == [
        ImpressionEntry(
            key[-16:],
            "" if answer is read else session,
            answer["list_id"],
            model_id,
            None,
            answer["source"],
            tuple(item["item_id"] for item in answer["items"]),
        )
        for answer in answers
    ]
    assert clicks == [
        ClickEntry(key[-16:], session, 1, TENT, None, read["list_id"], None, model_id),
        ClickEntry(key[-16:], session, 2, BAG, None, "?" * 128, None, model_id),
        ClickEntry(key[-16:], session, 3, BAG, "cart", "l", None, model_id),
    ]


async def test_a_full_stream_is_answered_as_a_full_redis_is(
    open_client: ClientOf, redis_url: str
) -> None:
    """Lists are answered from this click, which is not stored; a megabyte is 15,625 a shard."""
    settings = {"feedback": "stream", "feedback_max_mb": 1, "user_id_secret": SECRET}
    stream = stream_of(user_key("ada", SECRET.encode()))
    async with open_client(**settings) as client:
        with redis_py.Redis.from_url(redis_url) as redis:
            while (redis.memory_usage(stream) or 0) <= 15_625:
                redis.xadd(stream, {"k": "d", "u": "x" * 1000})
            full = await ask(client, user_id="ada", item_id=TENT, event_id="e1")
            posted = await client.post("/v1/users/ada/clicks", json={"clicks": [{"item_id": TENT}]})
            ready = (await client.get("/health/ready")).json()
            redis.delete(stream)
            again = await ask(client, user_id="ada", item_id=TENT, event_id="e1")
        metrics = (await client.get("/metrics")).text

    assert (full["stored"], full["degraded"], full["source"]) == (False, False, "model")
    assert (posted.status_code, ready["clicks"]) == (503, "not stored (feedback)")
    assert again["stored"]
    assert again["items"] == full["items"]
    assert 'recsys_clicks_not_stored_total{reason="feedback"} 2.0' in metrics


async def test_answers_without_feedback_have_no_list_id_and_take_those_of_clicks(
    open_client: ClientOf, redis_url: str
) -> None:
    async with open_client() as client, open_client(feedback="stream") as other:
        answer = await ask(client, user_id="ada", item_id=TENT, list_id="of-before.1")
        same = await ask(other, user_id="ada")

    list_id = same.pop("list_id")
    assert len(list_id.encode()) < 16
    assert {**answer, "stored": False} == same
    with redis_py.Redis.from_url(redis_url) as redis:
        logged: list[FeedbackEntry] = entries_in(redis)
    assert [type(each) for each in logged] == [ImpressionEntry]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"user_id": "ada", "list_id": "l"}, "give item_id with it"),
        ({"items": [TENT], "list_id": "l"}, "give item_id with it"),
        ({"user_id": "ada", "item_id": TENT, "list_id": "x" * 129}, "128"),
        ({"user_id": "ada", "item_id": TENT, "list_id": ""}, "at least 1"),
    ],
)
def test_a_list_id_without_a_click_or_too_long_is_refused(
    body: dict[str, str], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        RecommendationRequest.model_validate(body)
