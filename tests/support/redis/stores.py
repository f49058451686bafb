"""Redis clients and stores for tests."""

from dataclasses import replace
from typing import Any

from redis.crc import key_slot

from service.redis_client.breaker import BreakerConfig
from service.redis_client.client import RedisClient
from service.store.click import Click
from service.store.session_store import RedisStore, StoredSession, StoreLimits, Visit
from service.store.user_keys import user_key
from tests.support.redis.servers import SLOTS

WINDOW = 5
BREAKER = BreakerConfig(failures=3, pause_seconds=1.0)


def redis_client_for(url: str, **options: Any) -> RedisClient:
    """Return a client with time limits that suit a busy machine."""
    limits = {"timeout_ms": 2000, "budget_ms": 5000, "connections": 64, "breaker": BREAKER}
    return RedisClient(url, **{**limits, "observe": lambda *_: None, **options})


LIMITS = StoreLimits(
    history_length=WINDOW, idle_seconds=60, event_ids_kept=1000, tombstone_seconds=60
)


def store_on(redis_client: RedisClient, **limits: int) -> RedisStore:
    """Return a store with a secret of its own; limits: fields of `StoreLimits`."""
    return RedisStore(redis_client, replace(LIMITS, **limits), secret="pepper")


def shared_secret_store_on(redis_client: RedisClient, **limits: int) -> RedisStore:
    """Return a store that takes its secret from Redis; limits: fields of `StoreLimits`."""
    return RedisStore(redis_client, replace(LIMITS, **limits))


def primary_of(user: str, secret: str, primaries: int = 3) -> int:
    """Return the index of the primary with the user's key, in a cluster of `redis_cluster`."""
    return key_slot(user_key(user, secret.encode()).encode()) * primaries // SLOTS


async def visit(store: RedisStore, user: str, *clicks: Click) -> StoredSession:
    """Visit one user and return the session."""
    (session,) = await store.visit([Visit(user, clicks)])
    assert isinstance(session, StoredSession), session
    return session
