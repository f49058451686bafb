"""Open after failures in a row, after a pause one may try, closed again when that works."""

from itertools import pairwise

import pytest

from service.redis_client.breaker import Breaker, BreakerConfig, State


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
def moves() -> list[tuple[State | None, State | None]]:
    return []


@pytest.fixture
def breaker(clock: Clock, moves: list[tuple[State | None, State | None]]) -> Breaker:
    patience = BreakerConfig(failures=3, pause_seconds=1.0)
    return Breaker(patience, lambda before, after: moves.append((before, after)), clock)


def fail(breaker: Breaker, clock: Clock, times: int = 1) -> None:
    for _ in range(times):
        clock.now += 0.01
        assert breaker.admits()
        breaker.failed(clock.now)


def test_it_opens_after_so_many_failures_in_a_row(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock, 2)
    breaker.succeeded()
    fail(breaker, clock, 2)
    assert breaker.admits()

    fail(breaker, clock)

    assert breaker.state is State.OPEN
    assert not breaker.admits()


def test_what_was_under_way_together_fails_as_one(breaker: Breaker, clock: Clock) -> None:
    began = clock.now
    clock.now += 0.05
    for _ in range(10):
        breaker.failed(began)

    assert breaker.state is State.CLOSED


def test_after_the_pause_one_may_try_while_the_others_are_refused(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, clock, 3)
    clock.now += 0.99
    assert not breaker.admits()
    clock.now += 0.02

    assert [breaker.admits() for _ in range(3)] == [True, False, False]

    breaker.succeeded()
    assert [breaker.admits() for _ in range(3)] == [True, True, True]


def test_a_trial_that_fails_opens_it_for_another_pause(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock, 3)
    clock.now += 1.01
    fail(breaker, clock)

    assert breaker.state is State.OPEN
    clock.now += 0.99
    assert not breaker.admits()
    clock.now += 0.02
    assert breaker.admits()


def test_where_the_trial_is_given_up_another_may_try(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock, 3)
    clock.now += 1.01
    assert breaker.admits()
    assert not breaker.admits()

    breaker.abandoned()

    assert breaker.admits()
    breaker.succeeded()
    breaker.abandoned()
    assert breaker.state is State.CLOSED


def test_every_move_is_told(
    breaker: Breaker, clock: Clock, moves: list[tuple[State | None, State | None]]
) -> None:
    fail(breaker, clock, 3)
    clock.now += 1.01
    fail(breaker, clock)
    clock.now += 1.01
    assert breaker.admits()
    breaker.succeeded()
    breaker.close()

    states = [None, "closed", "open", "half-open", "open", "half-open", "closed", None]
    assert moves == list(pairwise(states))
