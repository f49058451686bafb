"""Work that no request waits for: started by one, at most one at a time and once in a while."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any


class BackgroundTasks:
    """Hold tasks until they end, and cancel those that have not ended on `close`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run it in a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Cancel all and wait for their ends."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Refresh:
    """Run `work` in the background when asked to: one at a time, not sooner than `every_seconds`.

    A request that comes sooner is dropped: the callers ask again as long as they have a reason to.
    """

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        every_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._every = every_seconds
        self._clock = clock
        self._tasks = BackgroundTasks()
        self._task: asyncio.Task[None] | None = None
        self._began = float("-inf")

    def soon(self) -> "asyncio.Task[None] | None":
        """Return the running task; start one if the last began long enough ago; else None."""
        if self._task is not None and not self._task.done():
            return self._task
        now = self._clock()
        if now < self._began + self._every:
            return None
        self._began = now
        self._task = self._tasks.start(self._work())
        return self._task

    async def wait(self, deadline: float) -> None:
        """Wait until the work is done, if there is some; deadline: on the monotonic clock."""
        task = self.soon()
        if task is not None:
            await asyncio.wait({task}, timeout=max(deadline - time.monotonic(), 0))

    async def close(self) -> None:
        """Cancel the work that is under way."""
        await self._tasks.close()
