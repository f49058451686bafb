"""A random value that all processes find in Redis: the first one that asks makes it.

Redis may lose it while processes know it. Each process therefore looks again every few seconds, and
at once when Redis had forgotten its scripts: it puts the value back where there is none and takes
over what is there, so that all soon agree again.
"""

import asyncio
import secrets
import time

from recsys.errors import StoreUnavailable
from service.redis_client.client import RedisClient
from service.redis_client.server import RedisCall

LOOK_SECONDS = 5.0  # between two looks


class SharedSecret:
    """The value of `key`, known after the first time without asking Redis."""

    def __init__(self, link: RedisClient, key: str, every_seconds: float = LOOK_SECONDS) -> None:
        self._link = link
        self._key = key
        self._every = every_seconds
        self._value: bytes | None = None
        self._due = 0.0
        self._looking: asyncio.Task[None] | None = None
        link.when_forgotten = self._look_soon

    async def value(self, deadline: float) -> bytes:
        """Raises `StoreUnavailable` where Redis has never told it."""
        if self._value is None:
            await self._look(deadline)
            assert self._value is not None, "else it was raised"
        elif time.monotonic() >= self._due:
            self._look_soon()
        return self._value

    def _look_soon(self) -> None:
        self._due = time.monotonic() + self._every
        if self._value is not None and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look_quietly())

    async def _look_quietly(self) -> None:
        """Ignore a failure: the next look tries again."""
        try:
            await self._look(self._link.deadline())
        except StoreUnavailable:
            return

    async def _look(self, deadline: float) -> None:
        mine = self._value or secrets.token_hex(32).encode()
        made, found = await self._link.run(
            "secret",
            [
                RedisCall(("SET", self._key, mine, "NX"), self._key, repeatable=True),
                RedisCall(("GET", self._key), self._key, repeatable=True),
            ],
            deadline,
        )
        if not isinstance(found, bytes) or not found:
            failed = next((part for part in (found, made) if isinstance(part, Exception)), None)
            raise failed or StoreUnavailable("the shared value vanished or is empty")
        self._value, self._due = found, time.monotonic() + self._every
