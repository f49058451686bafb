"""A store on a Redis, as the tests of the store and of its link make it."""

from dataclasses import replace
from typing import Any

from service.breaker import Patience
from service.redis_link import RedisLink
from service.store import Click, RedisStore, StoredSession, StoreLimits, Visit

WINDOW = 5
PATIENCE = Patience(failures=3, pause_seconds=1.0)


def link_to(url: str, **given: Any) -> RedisLink:
    """A link that a busy machine does not make impatient."""
    limits = {"timeout_ms": 2000, "budget_ms": 5000, "connections": 64, "patience": PATIENCE}
    return RedisLink(url, **{**limits, "observe": lambda *_: None, **given})


LIMITS = StoreLimits(
    history_length=WINDOW, idle_seconds=60, event_ids_kept=1000, tombstone_seconds=60
)


def store_on(link: RedisLink, **limits: int) -> RedisStore:
    return RedisStore(link, replace(LIMITS, **limits), secret="pepper")


def shared_store_on(link: RedisLink) -> RedisStore:
    """Without a secret of its own."""
    return RedisStore(link, LIMITS)


async def visit(store: RedisStore, user: str, *clicks: Click) -> StoredSession:
    (found,) = await store.visit([Visit(user, clicks)])
    assert isinstance(found, StoredSession), found
    return found
