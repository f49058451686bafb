"""The breaker opens after failures in a row, lets one trial through, and closes if it works."""

from itertools import pairwise

import pytest

from service.redis_client.breaker import BreakerConfig, BreakerState, CircuitBreaker


class Clock:
    """Clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def changes() -> list[tuple[BreakerState | None, BreakerState | None]]:
    return []


@pytest.fixture
def breaker(
    clock: Clock, changes: list[tuple[BreakerState | None, BreakerState | None]]
) -> CircuitBreaker:
    config = BreakerConfig(failures=3, pause_seconds=1.0)
    return CircuitBreaker(config, lambda before, after: changes.append((before, after)), clock)


def fail(breaker: CircuitBreaker, clock: Clock, times: int = 1) -> None:
    for _ in range(times):
        clock.now += 0.01
        assert breaker.try_acquire()
        breaker.record_failure(clock.now)


def test_it_opens_after_the_configured_failures_in_a_row(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker, clock, 2)
    breaker.record_success()
    fail(breaker, clock, 2)
    assert breaker.try_acquire()

    fail(breaker, clock)

    assert breaker.state is BreakerState.OPEN
    assert not breaker.try_acquire()


def test_failures_of_requests_under_way_together_count_as_one(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    began = clock.now
    clock.now += 0.05
    for _ in range(10):
        breaker.record_failure(began)

    assert breaker.state is BreakerState.CLOSED


def test_after_the_pause_one_request_is_let_through_and_the_others_are_refused(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker, clock, 3)
    clock.now += 0.99
    assert not breaker.try_acquire()
    clock.now += 0.02

    assert [breaker.try_acquire() for _ in range(3)] == [True, False, False]

    breaker.record_success()
    assert [breaker.try_acquire() for _ in range(3)] == [True, True, True]


def test_a_failed_trial_opens_it_for_another_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, clock, 3)
    clock.now += 1.01
    fail(breaker, clock)

    assert breaker.state is BreakerState.OPEN
    clock.now += 0.99
    assert not breaker.try_acquire()
    clock.now += 0.02
    assert breaker.try_acquire()


def test_after_a_cancelled_trial_another_request_is_let_through(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker, clock, 3)
    clock.now += 1.01
    assert breaker.try_acquire()
    assert not breaker.try_acquire()

    breaker.release()

    assert breaker.try_acquire()
    breaker.record_success()
    breaker.release()
    assert breaker.state is BreakerState.CLOSED


def test_every_change_of_state_is_reported(
    breaker: CircuitBreaker,
    clock: Clock,
    changes: list[tuple[BreakerState | None, BreakerState | None]],
) -> None:
    fail(breaker, clock, 3)
    clock.now += 1.01
    fail(breaker, clock)
    clock.now += 1.01
    assert breaker.try_acquire()
    breaker.record_success()
    breaker.close()

    states = [None, "closed", "open", "half-open", "open", "half-open", "closed", None]
    assert changes == list(pairwise(states))
