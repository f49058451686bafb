"""A thread for jobs that no recommendation waits for: one after the other, and few in line."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from recsys.errors import Overloaded

Result = TypeVar("Result")
MOST_IN_LINE = 16  # a search among a million items takes up to tenths of a second


class SideThread:
    """The event loop goes on while a job runs; close it at the end."""

    def __init__(self, most_in_line: int = MOST_IN_LINE) -> None:
        self._most = most_in_line
        self._in_line = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="aside")

    def close(self) -> None:
        """After the job that runs."""
        self._thread.shutdown(cancel_futures=True)

    async def run(self, job: Callable[[], Result]) -> Result:
        """What the job returns; raises `Overloaded` where the line is full."""
        if self._in_line >= self._most:
            raise Overloaded(f"{self._in_line} searches are in line already. Ask again later.")
        self._in_line += 1
        job_done = asyncio.get_running_loop().run_in_executor(self._thread, job)
        job_done.add_done_callback(self._leave)  # also where nobody waits for it any more
        return await job_done

    def _leave(self, _: object) -> None:
        self._in_line -= 1
