"""A store on a Redis, as the tests of the store and of its link make it."""

from dataclasses import replace
from typing import Any

from redis.crc import key_slot

from service.redis_client.breaker import BreakerConfig
from service.redis_client.client import RedisClient
from service.store.session_store import (
    Click,
    RedisStore,
    StoredSession,
    StoreLimits,
    Visit,
    user_key,
)
from tests.support.redis.servers import SLOTS

WINDOW = 5
BREAKER = BreakerConfig(failures=3, pause_seconds=1.0)


def link_to(url: str, **given: Any) -> RedisClient:
    """A link that a busy machine does not make impatient."""
    limits = {"timeout_ms": 2000, "budget_ms": 5000, "connections": 64, "breaker": BREAKER}
    return RedisClient(url, **{**limits, "observe": lambda *_: None, **given})


LIMITS = StoreLimits(
    history_length=WINDOW, idle_seconds=60, event_ids_kept=1000, tombstone_seconds=60
)


def store_on(link: RedisClient, **limits: int) -> RedisStore:
    return RedisStore(link, replace(LIMITS, **limits), secret="pepper")


def shared_store_on(link: RedisClient) -> RedisStore:
    """Without a secret of its own."""
    return RedisStore(link, LIMITS)


def home_of(user: str, secret: str, primaries: int = 3) -> int:
    """Return which primary of a cluster that `redis_cluster` made has the user's key."""
    return key_slot(user_key(user, secret.encode()).encode()) * primaries // SLOTS


async def visit(store: RedisStore, user: str, *clicks: Click) -> StoredSession:
    (found,) = await store.visit([Visit(user, clicks)])
    assert isinstance(found, StoredSession), found
    return found
