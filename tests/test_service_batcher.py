import asyncio
from collections.abc import Sequence

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


async def test_a_full_queue_refuses_at_once() -> None:
    doubler = Doubler()
    batcher = batcher_of(doubler, queue_size=1)
    batcher.submit(1)

    with pytest.raises(Overloaded, match="queue of 1 requests is full"):
        batcher.submit(2)
    doubler.go.set()
    await batcher.stop()


async def test_several_are_queued_together_or_not_at_all() -> None:
    """Half a batch recorded and the whole refused would double clicks on the next try."""
    doubler = Doubler()
    batcher = batcher_of(doubler, queue_size=3)
    doubler.go.set()

    with pytest.raises(Overloaded, match="no room for 4"):
        batcher.submit_all([1, 2, 3, 4])
    assert await asyncio.gather(*batcher.submit_all([5, 6, 7])) == [10, 12, 14]
    assert 1 not in [number for batch in doubler.batches for number in batch]
    await batcher.stop()


async def test_who_waited_too_long_is_refused() -> None:
    doubler = Doubler()
    batcher = batcher_of(doubler, deadline_ms=200, batch_size=1)
    first = batcher.submit(1)
    second = batcher.submit(2)
    await asyncio.sleep(0.3)
    doubler.go.set()

    assert await first == 2
    with pytest.raises(Overloaded, match="too long"):
        await second
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
