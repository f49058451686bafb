"""A full Redis with an eviction policy evicts each user as a whole, so that no answer is false."""

import pytest

from service.store.click import Click
from service.store.session_store import ComputedState, StoredSession, Visit
from tests.support.redis.servers import own_redis
from tests.support.redis.stores import redis_client_for, store_on

USERS = 6_000
BATCH = 200
STATE = bytes(560)  # size of a state with 128 units


def names(start: int) -> list[str]:
    return [f"user-{number}" for number in range(start, start + BATCH)]


def visit_of(name: str, events: str) -> Visit:
    return Visit(name, [Click(f"item-{event}", f"{name}-{event}") for event in events])


@pytest.mark.parametrize("policy", ["volatile-ttl", "allkeys-lru", "allkeys-random"])
async def test_an_evicted_user_is_gone_whole(policy: str) -> None:
    """A click is never stored twice, and a repeat that is acknowledged is stored."""
    evicted = repeats = 0
    with own_redis("--maxmemory", "4mb", "--maxmemory-policy", policy) as server:
        redis_client = redis_client_for(server.url)
        store = store_on(redis_client, history_length=50)
        states: list[ComputedState] = []
        for events in ("ab", "abc", "bcd"):  # most of them are repeats
            for start in range(0, USERS, BATCH):
                visits = [visit_of(name, events) for name in names(start)]
                _, found = await store.exchange(states, visits)
                states = [
                    ComputedState(visit.user_id, session.head, STATE)
                    for visit, session in zip(visits, found, strict=True)
                    if isinstance(session, StoredSession)
                ]
                for session in found:
                    assert isinstance(session, StoredSession), session
                    assert not session.refused
                    kept = [click.event_id for click in session.clicks]
                    assert len(kept) == len(set(kept)), "a click is stored twice"
                    assert len(kept) == session.count, "the user was evicted in part"
                    sent = {f"-{event}" for event in events}
                    stored = {str(event)[-2:] for event in kept}
                    assert sent <= stored, "a repeat was acknowledged, and is not stored"
                    repeats += session.duplicates
                    evicted += events != "ab" and session.duplicates == 0
        await redis_client.close()

    assert evicted > 0, "no user was evicted, so the test showed nothing"
    if policy != "volatile-ttl":
        assert repeats > 0
