"""Batches are full, in order and complete; load shedding follows its laws."""

import asyncio
import math
import socket
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import Overloaded
from service.batcher import TARGET_OF_DEADLINE, Batcher


class Doubler:
    """Handler that doubles numbers when `go` is set, and records the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        await self.go.wait()
        if 13 in numbers:
            raise ValueError("unlucky")
        return [2 * number for number in numbers]


def batcher_of(doubler: Doubler, batch_size: int = 4, queue_size: int = 100) -> Batcher[int, int]:
    batcher = Batcher[int, int](
        doubler, batch_size=batch_size, queue_size=queue_size, deadline_ms=5000
    )
    batcher.start()
    return batcher


async def test_waiting_queries_form_a_batch_and_each_gets_its_own_result() -> None:
    doubler = Doubler()
    batcher = batcher_of(doubler)
    first = batcher.submit(1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [batcher.submit(number) for number in range(2, 8)]
    doubler.go.set()

    assert await asyncio.gather(first, *others) == [2, 4, 6, 8, 10, 12, 14]
    assert doubler.batches == [[1], [2, 3, 4, 5], [6, 7]]
    await batcher.stop()


async def test_a_request_that_reached_a_socket_during_a_batch_is_in_the_next_batch() -> None:
    """The next batch also has a query that was queued during the batch."""
    batches: list[list[int]] = []
    answers: list[asyncio.Future[int]] = []
    tasks: list[asyncio.Task[int]] = []

    async def compute(numbers: Sequence[int]) -> Sequence[int]:
        batches.append(list(numbers))
        if len(batches) == 1:
            answers.append(batcher.submit(2))
            there.send(b"3")
        return numbers

    async def answered(number: int) -> int:
        return await batcher.submit(number)

    def read() -> None:
        tasks.append(asyncio.create_task(answered(int(here.recv(1)))))

    here, there = socket.socketpair()
    batcher = Batcher[int, int](compute, batch_size=4, queue_size=9, deadline_ms=5000)
    with here, there:
        asyncio.get_running_loop().add_reader(here, read)
        batcher.start()
        assert await batcher.submit(1) == 1
        assert await asyncio.gather(*answers) == [2]
        await batcher.stop()

        assert batches == [[1], [2, 3]]
        assert await asyncio.gather(*tasks) == [3]
        asyncio.get_running_loop().remove_reader(here)


async def test_a_full_queue_refuses_immediately() -> None:
    doubler = Doubler()
    batcher = batcher_of(doubler, queue_size=1)
    batcher.submit(1)

    with pytest.raises(Overloaded, match="no room for 1 more: 1 of 1 wait"):
        batcher.submit(2)
    doubler.go.set()
    await batcher.stop()


async def test_several_are_queued_together_or_not_at_all() -> None:
    """Otherwise a retry of the refused call would record half of its clicks twice."""
    doubler = Doubler()
    batcher = batcher_of(doubler, queue_size=3)
    doubler.go.set()

    with pytest.raises(Overloaded, match="no room for 4 more: 0 of 3 wait"):
        batcher.submit_all([1, 2, 3, 4])
    assert await asyncio.gather(*batcher.submit_all([5, 6, 7])) == [10, 12, 14]
    assert 1 not in [number for batch in doubler.batches for number in batch]
    await batcher.stop()


async def test_a_failing_batch_fails_its_requests_and_no_others() -> None:
    doubler = Doubler()
    doubler.go.set()
    batcher = batcher_of(doubler)

    with pytest.raises(ValueError, match="unlucky"):
        await batcher.submit(13)
    assert await batcher.submit(4) == 8
    assert batcher.running
    await batcher.stop()


async def test_a_cancelled_query_is_not_handled() -> None:
    doubler = Doubler()
    doubler.go.set()
    batcher = batcher_of(doubler)
    batcher.submit(1).cancel()

    assert await batcher.submit(2) == 4
    assert doubler.batches == [[2]]
    await batcher.stop()


async def test_stopping_handles_all_accepted_queries() -> None:
    doubler = Doubler()
    batcher = batcher_of(doubler)
    waiting = [batcher.submit(number) for number in range(6)]
    doubler.go.set()

    await batcher.stop()

    assert [answer.result() for answer in waiting] == [0, 2, 4, 6, 8, 10]
    assert not batcher.running


# Load shedding. The test sets the clock and ends the batches.

BATCH, DEADLINE = 4, 0.1
TARGET = DEADLINE * TARGET_OF_DEADLINE


class Queue:
    """Batcher with its own clock, and records of what became of each query."""

    def __init__(self, batch_size: int = BATCH, deadline: float = DEADLINE) -> None:
        self.now = 0.0
        self.arrived: dict[int, float] = {}
        self.latency: dict[int, float] = {}  # until the answer
        self.refused_after: dict[int, float] = {}
        self.batches: list[list[int]] = []
        self.taken = 0.0  # when the last batch was taken
        self._numbers = count()
        self._end: asyncio.Future[None] | None = None
        self.batcher = Batcher[int, int](
            self._handle,
            batch_size=batch_size,
            queue_size=1000,
            deadline_ms=deadline * 1000,
            clock=lambda: self.now,
        )
        self.batcher.start()

    async def _handle(self, queries: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(queries))
        self.taken = self.now
        self._end = asyncio.get_running_loop().create_future()
        await self._end
        return queries

    async def submit(self, queries: int = 1) -> list[int]:
        """Submit one call of this many queries; return their numbers."""
        numbers = [next(self._numbers) for _ in range(queries)]
        self.arrived |= dict.fromkeys(numbers, self.now)
        try:
            answers = self.batcher.submit_all(numbers)
        except Overloaded:
            self.refused_after |= dict.fromkeys(numbers, 0.0)
        else:
            for number, answer in zip(numbers, answers, strict=True):
                answer.add_done_callback(partial(self._note, number))
        if not self.busy:
            await settle()
        return numbers

    def _note(self, number: int, done: "asyncio.Future[int]") -> None:
        waited = self.now - self.arrived[number]
        if done.exception() is None:
            assert done.result() == number
            self.latency[number] = waited
        else:
            assert isinstance(done.exception(), Overloaded)
            self.refused_after[number] = waited

    @property
    def busy(self) -> bool:
        return self._end is not None and not self._end.done()

    @property
    def oldest(self) -> float:
        """Return when the oldest waiting query arrived; infinity if none waits."""
        taken = {number for batch in self.batches for number in batch}
        waiting = self.arrived.keys() - taken - self.refused_after.keys()
        return min((self.arrived[number] for number in waiting), default=math.inf)

    async def end_batch(self) -> None:
        assert self._end is not None
        self._end.set_result(None)
        await settle()

    async def close(self) -> None:
        stopping = asyncio.create_task(self.batcher.stop())
        await settle()
        while not stopping.done():
            await self.end_batch()


async def settle() -> None:
    """Run the event loop until the batcher waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def standing_queue() -> Queue:
    """Build a queue of 12 behind a batch that hangs; the oldest query has waited too long."""
    queue = Queue()
    await queue.submit()
    await queue.submit()
    queue.now += (TARGET + DEADLINE) / 2
    for _ in range(11):
        await queue.submit()
    queue.now += (TARGET + DEADLINE) / 2 + 0.001
    assert queue.refused_after == {}
    return queue


async def test_one_slow_batch_of_an_idle_service_refuses_no_request() -> None:
    """The next requests wait for it, which is no sign of load."""
    queue = Queue()
    await queue.submit()
    queue.now += 60.0
    for _ in range(BATCH):
        await queue.submit()
    await queue.end_batch()
    await queue.submit()
    queue.now += 60.0
    await queue.submit()
    await queue.close()

    assert queue.refused_after == {}
    assert len(queue.latency) == 2 + BATCH + 1


@pytest.mark.parametrize("before", [0, 1])
async def test_one_batch_call_of_an_idle_service_refuses_no_other_request(before: int) -> None:
    """The call fills several batches; `before`: whether a slow batch is under way."""
    queue = Queue(batch_size=32, deadline=0.15)
    if before:
        await queue.submit(before)
    await queue.submit(100)
    for _ in range(20):  # a batch takes 0.4 s, in which 4 requests come
        for _ in range(4):
            queue.now += 0.1
            await queue.submit()
        if queue.busy:
            await queue.end_batch()
    await queue.close()

    assert queue.refused_after == {}


async def test_batch_calls_are_refused_behind_a_full_batch_of_others() -> None:
    """Only the oldest call counts as one request."""
    queue = Queue(batch_size=32, deadline=0.15)
    await queue.submit(100)
    await queue.submit(100)
    queue.now += 0.2

    refused = await queue.submit(100)

    assert list(queue.refused_after) == refused
    await queue.close()


async def test_a_burst_is_answered_however_slowly() -> None:
    """100 requests come at once and are handled before the queue has stood for a deadline."""
    queue = Queue()
    await queue.submit(100)
    while queue.busy:
        queue.now += (DEADLINE + TARGET) / 26
        await queue.submit()
        await queue.end_batch()
        if len(queue.batches) > 25:
            break
    await queue.close()

    assert queue.refused_after == {}


async def test_behind_a_batch_that_hangs_requests_are_refused_after_the_deadline() -> None:
    queue = await standing_queue()

    (refused,) = await queue.submit()

    assert queue.refused_after[refused] == 0.0
    await queue.close()


async def test_a_request_that_waited_longer_than_the_deadline_is_dropped_unhandled() -> None:
    """All are dropped except a batch of the newest, whose clients may still wait."""
    queue = await standing_queue()
    queue.now += DEADLINE

    await queue.end_batch()

    dropped = sorted(queue.refused_after)
    assert dropped == list(range(1, 9))
    await queue.close()
    assert queue.batches == [[0], [9, 10, 11, 12]]


async def test_shedding_ends_when_a_batch_has_room_to_spare() -> None:
    queue = await standing_queue()
    for _ in range(3):
        await queue.end_batch()
    assert queue.batcher.waiting == 0
    refused_before = len(queue.refused_after)

    await queue.end_batch()  # the loop finds no query
    for _ in range(100):
        await queue.submit()

    assert len(queue.refused_after) == refused_before
    await queue.close()


@pytest.mark.parametrize("first", [1, BATCH + 2])
async def test_several_are_shed_together_or_not_at_all(first: int) -> None:
    """A batch call that has begun is finished, and the query behind it joins its batch."""
    queue = Queue()
    begun, whole = await queue.submit(first), await queue.submit(3)
    queue.now += DEADLINE
    await queue.submit(BATCH)
    queue.now += DEADLINE
    await queue.end_batch()
    await queue.close()

    assert set(begun) <= set(queue.latency)
    assert list(queue.refused_after) == ([] if first > 1 else whole)


async def test_cancelled_queries_leave_room_in_the_batch() -> None:
    """Otherwise the batch would be smaller than it could be."""
    doubler = Doubler()
    batcher = batcher_of(doubler, batch_size=2)
    for number in (1, 2):
        batcher.submit(number).cancel()
    others = [batcher.submit(number) for number in (3, 4)]
    doubler.go.set()

    assert await asyncio.gather(*others) == [6, 8]
    assert doubler.batches == [[3, 4]]
    await batcher.stop()


async def offer(queue: Queue, rate: float, batch_seconds: float, seconds: float) -> None:
    """Submit requests at a steady rate; each batch takes the same time at any size."""
    until = queue.now + seconds
    while queue.now < until:
        queue.now += 1 / rate
        if queue.busy and queue.now >= queue.taken + batch_seconds:
            await queue.end_batch()
        await queue.submit()


@pytest.mark.parametrize("batch_ms", [20, 90, 400])
@pytest.mark.parametrize("times", [1.2, 3.0])
async def test_overload_is_shed_while_the_service_works_at_full_capacity(
    times: float, batch_ms: int
) -> None:
    """Batches of 32 are quick, slow, or slower than the deadline."""
    batch_seconds, seconds = batch_ms / 1000, 20.0
    capacity = 32 / batch_seconds
    queue = Queue(batch_size=32, deadline=0.15)
    await offer(queue, times * capacity, batch_seconds, seconds)
    answered = list(queue.latency.values())
    late = [number for number, waited in queue.refused_after.items() if waited > 0]

    assert len(answered) >= 0.9 * seconds * capacity
    assert np.percentile(answered, 99) < max(0.25, 2.5 * batch_seconds)
    assert all(queue.arrived[number] < 0.5 for number in late)  # when the queue built up

    await offer(queue, 0.8 * capacity, batch_seconds, 2.0)
    refused = len(queue.refused_after)
    await offer(queue, 0.8 * capacity, batch_seconds, 10.0)
    assert len(queue.refused_after) == refused
    await queue.close()
    assert len(queue.latency) + len(queue.refused_after) == len(queue.arrived)


SUBMIT = st.tuples(st.just("submit"), st.integers(1, 2 * BATCH))
WAIT = st.tuples(st.just("wait"), st.integers(1, 90))
TICK = 0.00137  # seconds; no multiple is the target, the deadline or their sum
END = st.tuples(st.just("end"), st.just(0))


@given(st.lists(st.one_of(SUBMIT, SUBMIT, WAIT, END), max_size=80))
async def test_laws_of_shedding(steps: list[tuple[str, int]]) -> None:
    queue = Queue()
    together: list[list[int]] = []
    below = 0.0  # when the delay was last at or below the target
    standing = False
    for what, number in steps:
        batches, refused = len(queue.batches), set(queue.refused_after)
        waiting = queue.batcher.waiting
        if what == "wait":
            begun, queue.now = queue.now, queue.now + number * TICK
            if queue.oldest + TARGET > begun:
                below = min(queue.oldest + TARGET, queue.now)
        standing = standing or queue.now - below > DEADLINE
        if what == "submit":
            together.append(await queue.submit(number))
        elif what == "end" and queue.busy:
            await queue.end_batch()

        for one in set(queue.refused_after) - refused:
            assert standing, "refused without a standing queue"
            assert waiting >= BATCH, "refused although the next batch had room"
            assert queue.refused_after[one] == 0 or queue.refused_after[one] > DEADLINE
        for batch in queue.batches[batches:]:
            room = len(batch) < BATCH
            assert not (room and set(queue.refused_after) - refused), "dropped in spite of room"
            standing = standing and not room
        standing = standing and queue.busy
        if queue.oldest + TARGET >= queue.now:
            below = queue.now
    await queue.close()

    handled = [number for batch in queue.batches for number in batch]
    assert handled == sorted(set(handled)), "handled twice or not in order"
    assert set(handled) == set(queue.latency)
    assert set(handled).isdisjoint(queue.refused_after)
    assert len(handled) + len(queue.refused_after) == len(queue.arrived)
    for numbers in together:
        outcomes = Counter(number in queue.latency for number in numbers)
        assert len(outcomes) == 1, "half of a submission was shed"
