"""Random value that all processes share through Redis; the first process that needs it creates it.

Redis may lose the value while processes know it. Each process therefore synchronises every few
seconds, and at once when Redis had lost its scripts: it stores its value if Redis has none, and
adopts the value of Redis otherwise. So all processes soon agree again.
"""

import asyncio
import secrets
import time

from recsys.errors import StoreUnavailable
from service.redis_client.client import RedisClient
from service.redis_client.server import RedisCall

SYNC_SECONDS = 5.0  # between two synchronisations


class SharedSecret:
    """Shared value of a Redis key. After the first read it is answered without asking Redis."""

    def __init__(
        self, redis_client: RedisClient, key: str, sync_seconds: float = SYNC_SECONDS
    ) -> None:
        self._redis_client = redis_client
        self._key = key
        self._sync_seconds = sync_seconds
        self._value: bytes | None = None
        self._sync_at = 0.0
        self._syncing: asyncio.Task[None] | None = None
        redis_client.on_scripts_lost = self._sync_soon

    async def value(self, deadline: float) -> bytes:
        """Return the value.

        Raises:
            StoreUnavailable: if this process does not know the value and Redis does not answer.
        """
        if self._value is None:
            await self._sync(deadline)
            assert self._value is not None, "_sync sets the value or raises"
        elif time.monotonic() >= self._sync_at:
            self._sync_soon()
        return self._value

    async def close(self) -> None:
        """Wait for the synchronisation that is under way: it needs a connection."""
        if self._syncing is not None:
            await asyncio.wait({self._syncing})

    def _sync_soon(self) -> None:
        self._sync_at = time.monotonic() + self._sync_seconds
        if self._value is not None and (self._syncing is None or self._syncing.done()):
            self._syncing = asyncio.create_task(self._sync_quietly())

    async def _sync_quietly(self) -> None:
        """Synchronise and ignore a failure: the next synchronisation tries again."""
        try:
            await self._sync(self._redis_client.deadline())
        except StoreUnavailable:
            return

    async def _sync(self, deadline: float) -> None:
        own = self._value or secrets.token_hex(32).encode()
        set_reply, value = await self._redis_client.run(
            "secret",
            [
                RedisCall(("SET", self._key, own, "NX"), self._key, repeatable=True),
                RedisCall(("GET", self._key), self._key, repeatable=True),
            ],
            deadline,
        )
        if not isinstance(value, bytes) or not value:
            errors = (reply for reply in (value, set_reply) if isinstance(reply, Exception))
            raise next(errors, None) or StoreUnavailable(
                "The shared secret in Redis has no value, although it was just written. "
                "Ask again soon."
            )
        self._value, self._sync_at = value, time.monotonic() + self._sync_seconds
