"""Background tasks that no request waits for."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any


class TaskSet:
    """Set of running tasks. `close` cancels those that have not ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run `work` in a task and hold the task until it ends.

        It has a context of its own: its log lines are of no request, though one may start it.
        """
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class ThrottledTask:
    """Background task that runs on request: one run at a time, `interval_seconds` between starts.

    A request that comes sooner is dropped. Callers repeat it as long as they need the work.
    """

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._tasks = TaskSet()
        self._task: asyncio.Task[None] | None = None
        self._began = float("-inf")

    def request(self) -> "asyncio.Task[None] | None":
        """Return the running task, else start one; return None if the last start is too recent."""
        if self._task is not None and not self._task.done():
            return self._task
        now = self._clock()
        if now < self._began + self._interval_seconds:
            return None
        self._began = now
        self._task = self._tasks.start(self._work())
        return self._task

    async def wait(self, deadline: float) -> None:
        """Request the work and wait for it, at most until `deadline` (monotonic clock)."""
        task = self.request()
        if task is not None:
            await asyncio.wait({task}, timeout=max(deadline - time.monotonic(), 0))

    async def close(self) -> None:
        """Cancel the running work."""
        await self._tasks.close()
