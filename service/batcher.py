"""Requests that wait are handled together: a bounded queue and one loop that drains it.

No artificial delay: the loop takes what is there, up to the batch size, and while it works the next
batch gathers. A full queue and a passed deadline are refused at once instead of made to wait.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from recsys.errors import Overloaded

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Question, Answer]):
    question: Question
    answer: "asyncio.Future[Answer]"
    latest: float  # monotonic; begun later than this, nobody waits for the answer any more


class Batcher(Generic[Question, Answer]):
    """Feeds `handle` with batches, which gives each question its answer or why there is none."""

    def __init__(
        self,
        handle: Callable[[Sequence[Question]], Awaitable[Sequence[Answer | Exception]]],
        *,
        batch_size: int,
        queue_size: int,
        deadline_ms: int,
        observe: Callable[[int], None] = lambda waiting: None,
    ) -> None:
        """observe: told how many still wait whenever a batch is taken."""
        self._handle = handle
        self._batch_size = batch_size
        self._deadline = deadline_ms / 1000
        self._observe = observe
        self._queue: asyncio.Queue[_Waiting[Question, Answer]] = asyncio.Queue(queue_size)
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.create_task(self._run(), name="batcher")

    async def stop(self) -> None:
        """Finish what is accepted, then end."""
        if self._loop is None:
            return
        await self._queue.join()
        self._loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._loop
        self._loop = None

    @property
    def running(self) -> bool:
        return self._loop is not None and not self._loop.done()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def submit(self, question: Question) -> "asyncio.Future[Answer]":
        """Queue a question now; raises `Overloaded`. Questions are handled in this order."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(_Waiting(question, answer, time.monotonic() + self._deadline))
        except asyncio.QueueFull:
            raise Overloaded(
                f"The queue of {self._queue.maxsize:,} requests is full. Ask again in a second."
            ) from None
        return answer

    def submit_all(self, questions: Sequence[Question]) -> "list[asyncio.Future[Answer]]":
        """Queue all of them or, raising `Overloaded`, none: half a batch must not be recorded."""
        if len(questions) > self._queue.maxsize - self._queue.qsize():
            raise Overloaded(
                f"The queue has no room for {len(questions):,} requests. Ask again in a second."
            )
        return [self.submit(question) for question in questions]

    async def _run(self) -> None:
        while True:
            taken = [await self._queue.get()]
            while len(taken) < self._batch_size and not self._queue.empty():
                taken.append(self._queue.get_nowait())
            self._observe(self._queue.qsize())
            try:
                await self._answer(taken)
            finally:
                for _ in taken:
                    self._queue.task_done()

    async def _answer(self, taken: list[_Waiting[Question, Answer]]) -> None:
        now = time.monotonic()
        timely = []
        for waiting in taken:
            if waiting.answer.done():  # the client has gone
                continue
            if waiting.latest < now:
                waiting.answer.set_exception(
                    Overloaded("The request waited too long in the queue. Ask again in a second.")
                )
            else:
                timely.append(waiting)
        if not timely:
            return
        try:
            answers = await self._handle([waiting.question for waiting in timely])
        except Exception as failed:  # a batch must not take the loop down with it
            for waiting in timely:
                if not waiting.answer.done():
                    waiting.answer.set_exception(failed)
            return
        for waiting, answer in zip(timely, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)
