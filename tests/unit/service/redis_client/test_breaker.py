"""Open after failures in a row, after a pause one may try, closed again when that works."""

from itertools import pairwise

import pytest

from service.redis_client.breaker import BreakerConfig, BreakerState, CircuitBreaker


class Clock:
    """Stands still until somebody turns it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def moves() -> list[tuple[BreakerState | None, BreakerState | None]]:
    return []


@pytest.fixture
def breaker(
    clock: Clock, moves: list[tuple[BreakerState | None, BreakerState | None]]
) -> CircuitBreaker:
    patience = BreakerConfig(failures=3, pause_seconds=1.0)
    return CircuitBreaker(patience, lambda before, after: moves.append((before, after)), clock)


def fail(breaker: CircuitBreaker, clock: Clock, times: int = 1) -> None:
    for _ in range(times):
        clock.now += 0.01
        assert breaker.try_acquire()
        breaker.record_failure(clock.now)


def test_it_opens_after_so_many_failures_in_a_row(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, clock, 2)
    breaker.record_success()
    fail(breaker, clock, 2)
    assert breaker.try_acquire()

    fail(breaker, clock)

    assert breaker.state is BreakerState.OPEN
    assert not breaker.try_acquire()


def test_what_was_under_way_together_fails_as_one(breaker: CircuitBreaker, clock: Clock) -> None:
    began = clock.now
    clock.now += 0.05
    for _ in range(10):
        breaker.record_failure(began)

    assert breaker.state is BreakerState.CLOSED


def test_after_the_pause_one_may_try_while_the_others_are_refused(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker, clock, 3)
    clock.now += 0.99
    assert not breaker.try_acquire()
    clock.now += 0.02

    assert [breaker.try_acquire() for _ in range(3)] == [True, False, False]

    breaker.record_success()
    assert [breaker.try_acquire() for _ in range(3)] == [True, True, True]


def test_a_trial_that_fails_opens_it_for_another_pause(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker, clock, 3)
    clock.now += 1.01
    fail(breaker, clock)

    assert breaker.state is BreakerState.OPEN
    clock.now += 0.99
    assert not breaker.try_acquire()
    clock.now += 0.02
    assert breaker.try_acquire()


def test_where_the_trial_is_given_up_another_may_try(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, clock, 3)
    clock.now += 1.01
    assert breaker.try_acquire()
    assert not breaker.try_acquire()

    breaker.release()

    assert breaker.try_acquire()
    breaker.record_success()
    breaker.release()
    assert breaker.state is BreakerState.CLOSED


def test_every_move_is_told(
    breaker: CircuitBreaker,
    clock: Clock,
    moves: list[tuple[BreakerState | None, BreakerState | None]],
) -> None:
    fail(breaker, clock, 3)
    clock.now += 1.01
    fail(breaker, clock)
    clock.now += 1.01
    assert breaker.try_acquire()
    breaker.record_success()
    breaker.close()

    states = [None, "closed", "open", "half-open", "open", "half-open", "closed", None]
    assert moves == list(pairwise(states))
