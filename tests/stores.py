"""A store on a Redis, as the tests of the store and of its link make it."""

from service.redis_link import RedisLink
from service.store import Click, RedisStore, StoredSession, Visit

WINDOW = 5


def link_to(url: str) -> RedisLink:
    return RedisLink(url, timeout_ms=2000, budget_ms=5000, connections=64, observe=lambda *_: None)


def store_on(link: RedisLink, **limits: int) -> RedisStore:
    given = {"idle_seconds": 60, "event_ids_kept": 1000, "tombstone_seconds": 60, **limits}
    return RedisStore(link, window=WINDOW, secret="pepper", **given)


async def visit(store: RedisStore, user: str, *clicks: Click) -> StoredSession:
    (found,) = await store.visit([Visit(user, clicks)])
    assert isinstance(found, StoredSession), found
    return found
