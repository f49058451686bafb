"""Writer of computed states: they wait for the next round trip to the store."""

import asyncio
from collections.abc import Callable, Sequence

from recsys.errors import StoreUnavailable
from service.store.session_store import ComputedState, Store, StoredSession, Visit

FLUSH_SECONDS = 0.02  # how long a state waits for the round trip of another batch


class StateWriter:
    """Queue of computed states in front of a store.

    Args:
        store: the sessions of users.
        count_kept: called with the number of states that were stored, and that were outdated.
    """

    def __init__(self, store: Store, count_kept: Callable[[int, int], None]) -> None:
        self._store, self._count_kept = store, count_kept
        self._waiting: list[ComputedState] = []
        self._flushing: asyncio.Task[None] | None = None

    def add(self, states: Sequence[ComputedState]) -> None:
        """Queue states."""
        self._waiting += states
        if self._waiting and (self._flushing is None or self._flushing.done()):
            self._flushing = asyncio.create_task(self._flush())

    async def exchange(self, visits: Sequence[Visit]) -> list[StoredSession | StoreUnavailable]:
        """Store the states that wait, then visit users, in one round trip."""
        waiting, self._waiting = self._waiting, []
        if not waiting and not visits:
            return []
        kept, replies = await self._store.exchange(waiting, visits)
        self._count_kept(kept, len(waiting) - kept)
        return replies

    async def close(self) -> None:
        """Store the states that wait."""
        if self._flushing is not None:
            await asyncio.wait({self._flushing})
        await self.exchange([])

    async def _flush(self) -> None:
        """Store the states that no other batch takes along, until none waits."""
        while self._waiting:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.exchange([])
