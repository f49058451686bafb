import asyncio
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

import pytest

from recsys.errors import Overloaded
from service.batcher import Batcher


class Doubler:
    """Doubles numbers, as slowly as it is told, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        await self.go.wait()
        if 13 in numbers:
            raise ValueError("unlucky")
        return [2 * number for number in numbers]


def batcher_of(
    doubler: Doubler, *, batch_size: int = 4, queue_size: int = 100, deadline_ms: int = 5000
) -> Batcher[int, int]:
    batcher = Batcher[int, int](
        doubler, batch_size=batch_size, queue_size=queue_size, deadline_ms=deadline_ms
    )
    batcher.start()
    return batcher


async def test_what_waits_is_taken_together_and_each_gets_its_own_answer() -> None:
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


async def test_what_came_to_a_socket_while_a_batch_was_computed_is_in_the_next_one() -> None:
    """Beside one that is queued already: the next batch has both."""
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


async def test_what_comes_between_two_batches_is_refused_where_it_would_be_late() -> None:
    """Batches of 4 take 20 ms at least: of 200, at most 20 are answered within 100 ms."""
    loop, accepted = asyncio.get_running_loop(), list[asyncio.Future[int]]()
    batches = 0

    async def compute(numbers: Sequence[int]) -> Sequence[int]:
        nonlocal batches
        batches += 1
        if batches == 6:
            accepted.append(batcher.submit(2))
            loop.call_soon(burst)
        time.sleep(0.02)
        return numbers

    def burst() -> None:
        for number in range(200):
            with suppress(Overloaded):
                accepted.append(batcher.submit(number))

    batcher = Batcher[int, int](compute, batch_size=4, queue_size=999, deadline_ms=100)
    batcher.start()
    for _ in range(6):
        await batcher.submit(1)
    await batcher.stop()

    assert 1 < len(accepted) <= 20
    assert all(one.done() for one in accepted)


async def test_a_full_queue_refuses_at_once() -> None:
    doubler = Doubler()
    batcher = batcher_of(doubler, queue_size=1)
    batcher.submit(1)

    with pytest.raises(Overloaded, match="no room for 1 more: 1 of 1 wait"):
        batcher.submit(2)
    doubler.go.set()
    await batcher.stop()


async def test_several_are_queued_together_or_not_at_all() -> None:
    """Half a batch recorded and the whole refused would double clicks on the next try."""
    doubler = Doubler()
    batcher = batcher_of(doubler, queue_size=3)
    doubler.go.set()

    with pytest.raises(Overloaded, match="no room for 4 more: 0 of 3 wait"):
        batcher.submit_all([1, 2, 3, 4])
    assert await asyncio.gather(*batcher.submit_all([5, 6, 7])) == [10, 12, 14]
    assert 1 not in [number for batch in doubler.batches for number in batch]
    await batcher.stop()


class Metronome:
    """Takes the same time for every batch, however large."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __call__(self, numbers: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(self.seconds)
        return numbers


async def test_who_would_be_answered_too_late_is_refused_at_once() -> None:
    """0.1 s a batch of 2, answers within 0.25 s: one batch may wait, a second one may not."""
    batcher = Batcher[int, int](Metronome(0.1), batch_size=2, queue_size=100, deadline_ms=250)
    batcher.start()
    for number in range(8):  # it learns how long they take
        await batcher.submit(number)

    under_way = batcher.submit(8)
    await asyncio.sleep(0.01)
    next_batch = [batcher.submit(number) for number in (9, 10)]
    with pytest.raises(Overloaded, match="2 requests wait, and this one would be answered too"):
        batcher.submit(11)

    assert await asyncio.gather(under_way, *next_batch) == [8, 9, 10]
    await batcher.stop()


async def test_a_batch_that_is_stuck_is_noticed_before_it_ends() -> None:
    metronome = Metronome(0.001)
    batcher = Batcher[int, int](metronome, batch_size=2, queue_size=100, deadline_ms=50)
    batcher.start()
    await batcher.submit(1)
    metronome.seconds = 0.5

    waiting = [batcher.submit(2)]
    await asyncio.sleep(0.1)
    waiting += batcher.submit_all([3, 4, 5])  # slow, as any batch may be for once
    await asyncio.sleep(0.2)
    with pytest.raises(Overloaded, match="too late"):
        batcher.submit(6)

    metronome.seconds = 0.001
    assert await asyncio.gather(*waiting) == [2, 3, 4, 5]
    await batcher.stop()


async def test_one_slow_batch_is_outvoted() -> None:
    metronome = Metronome(0.001)
    batcher = Batcher[int, int](metronome, batch_size=2, queue_size=100, deadline_ms=100)
    batcher.start()
    for number in range(5):
        metronome.seconds = 0.3 if number == 2 else 0.001
        await batcher.submit(number)

    under_way = batcher.submit(5)
    await asyncio.sleep(0)  # it is taken
    assert await asyncio.gather(*[under_way, batcher.submit(6)]) == [5, 6]
    await batcher.stop()


async def test_batches_that_waited_for_something_else_refuse_nobody() -> None:
    metronome = Metronome(0.3)
    batcher = Batcher[int, int](
        metronome, batch_size=2, queue_size=9, deadline_ms=300, usual=lambda answers: False
    )
    batcher.start()
    await batcher.submit(0)

    under_way = batcher.submit(1)
    await asyncio.sleep(0.01)
    assert await asyncio.gather(*[under_way, batcher.submit(2)]) == [1, 2]
    await batcher.stop()


async def test_half_of_the_deadline_is_for_waiting_however_slow_a_batch_is() -> None:
    """What takes longer than the deadline allows is still answered, as much as there can be."""
    batcher = Batcher[int, int](Metronome(0.4), batch_size=2, queue_size=100, deadline_ms=400)
    batcher.start()
    await batcher.submit(0)

    together = batcher.submit_all([1, 2, 3, 4, 5])  # nothing is under way: all may come in
    assert await asyncio.gather(*together) == [1, 2, 3, 4, 5]
    first = batcher.submit(6)
    await asyncio.sleep(0.01)
    with pytest.raises(Overloaded):
        batcher.submit(7)
    await asyncio.sleep(0.3)
    assert await asyncio.gather(*[first, batcher.submit(8)]) == [6, 8]
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


async def test_a_client_that_left_is_not_worked_for() -> None:
    doubler = Doubler()
    doubler.go.set()
    batcher = batcher_of(doubler)
    batcher.submit(1).cancel()

    assert await batcher.submit(2) == 4
    assert doubler.batches == [[2]]
    await batcher.stop()


async def test_stopping_finishes_what_was_accepted() -> None:
    doubler = Doubler()
    batcher = batcher_of(doubler)
    waiting = [batcher.submit(number) for number in range(6)]
    doubler.go.set()

    await batcher.stop()

    assert [answer.result() for answer in waiting] == [0, 2, 4, 6, 8, 10]
    assert not batcher.running
