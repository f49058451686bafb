"""Both plans learn every pair of clicks once; what differs is what stands side by side."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.batches import STEPS_MIXED, Batch, BatchPlan, SessionParallelBatches, WholeSessionBatches
from data.sessions import Sessions

LENGTHS = st.lists(st.integers(2, 9), min_size=1, max_size=60)


def sessions_of(lengths: list[int]) -> Sessions:
    """Item n is the n-th click of all, so that every pair is told apart."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    clicks = int(offsets[-1])
    return Sessions(
        items=np.arange(clicks, dtype=np.int32),
        time_ms=np.arange(clicks, dtype=np.int64),
        offsets=offsets,
        item_ids=tuple(map(str, range(clicks))),
    )


def pairs_of(lengths: list[int]) -> Counter[tuple[int, int]]:
    ends = set(np.cumsum(lengths).tolist())
    return Counter((c, c + 1) for c in range(sum(lengths)) if c + 1 not in ends)


def learned(steps: BatchPlan) -> Counter[tuple[int, int]]:
    return Counter(
        (int(clicked), int(following))
        for batch in batches(steps)
        for clicked, following in zip(batch.clicked, batch.following, strict=True)
    )


def batches(steps: BatchPlan) -> list[Batch]:
    return [steps[step] for step in range(len(steps))]


def test_a_lane_that_ends_takes_the_next_waiting_session() -> None:
    steps = SessionParallelBatches(sessions_of([3, 2, 2]), lanes=2)  # clicks 0 1 2 | 3 4 | 5 6

    seen = [
        (b.clicked.tolist(), b.following.tolist(), b.fresh.tolist())
        for b in batches(steps)
        if b.fresh is not None
    ]

    assert seen == [
        ([0, 3], [1, 4], [True, True]),
        ([1, 5], [2, 6], [False, True]),
    ]


def test_the_batch_narrows_when_nobody_waits() -> None:
    steps = SessionParallelBatches(sessions_of([4, 2]), lanes=2)

    assert [len(batch) for batch in batches(steps)] == [2, 1, 1]
    assert steps[2].lanes is not None
    assert steps[2].lanes.tolist() == [0]


def test_fewer_sessions_than_lanes_are_read_too() -> None:
    steps = SessionParallelBatches(sessions_of([2]), lanes=128)

    assert len(steps) == 1
    assert steps[0].clicked.tolist() == [0]


@given(LENGTHS, st.integers(1, 8))
def test_every_lane_reads_its_sessions_in_order_and_each_begins_fresh(
    lengths: list[int], lanes: int
) -> None:
    """Checklist 1 and 9: the reset happens at a session's start only; no session is cut short."""
    sessions = sessions_of(lengths)
    steps = SessionParallelBatches(sessions, lanes)
    last_in_lane: dict[int, int] = {}
    for batch in batches(steps):
        assert batch.lanes is not None
        assert batch.fresh is not None
        assert batch.widths.tolist() == [len(batch)]
        for lane, clicked, following, fresh in zip(
            batch.lanes.tolist(), batch.clicked, batch.following, batch.fresh, strict=True
        ):
            assert fresh == (clicked in sessions.offsets)
            assert fresh or last_in_lane[lane] == clicked
            last_in_lane[lane] = int(following)

    assert learned(steps) == pairs_of(lengths)
    assert steps.events == sum(lengths) - len(lengths)
    assert steps.events_before(len(steps)) == steps.events


def test_whole_sessions_are_packed_longest_first() -> None:
    steps = WholeSessionBatches(sessions_of([2, 4, 3]), rows=3, longest=50, seed=0)

    assert len(steps) == 1
    batch = steps[0]  # clicks 0 1 | 2 3 4 5 | 6 7 8
    assert batch.lanes is None
    assert batch.widths.tolist() == [3, 2, 1]
    assert batch.clicked.tolist() == [2, 6, 0, 3, 7, 4]
    assert batch.following.tolist() == [3, 7, 1, 4, 8, 5]


def test_a_session_longer_than_the_window_is_cut_and_loses_no_pair() -> None:
    steps = WholeSessionBatches(sessions_of([8]), rows=4, longest=3, seed=0)

    assert learned(steps) == pairs_of([8])
    assert all(len(batch.widths) <= 3 for batch in batches(steps))


@given(LENGTHS, st.integers(1, 8), st.integers(1, 9), st.integers(0, 5))
def test_every_pair_of_whole_sessions_is_learned_once_in_the_order_of_its_session(
    lengths: list[int], rows: int, longest: int, seed: int
) -> None:
    steps = WholeSessionBatches(sessions_of(lengths), rows, longest, seed)

    assert learned(steps) == pairs_of(lengths)
    assert steps.events == sum(lengths) - len(lengths)
    for batch in batches(steps):
        assert (np.diff(batch.widths) <= 0).all()
        at = 0
        for width, following in zip(batch.widths, batch.widths[1:], strict=False):
            now, then = batch.following[at : at + following], batch.clicked[at + width :]
            assert (now == then[:following]).all()  # a row goes on where it stood
            at += width


@given(st.integers(1, 20), st.integers(0, 3))
def test_steps_of_whole_sessions_hold_about_as_many_events_as_asked(rows: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(2, 7, size=400).tolist()
    steps = WholeSessionBatches(sessions_of(lengths), rows, 50, seed)

    wanted = rows * steps.events / len(lengths)
    sizes = [len(batch) for batch in batches(steps)]
    assert max(sizes) <= 1.5 * wanted + 5


def test_time_is_kept_but_for_a_few_steps_and_the_seed_mixes_those() -> None:
    lengths = [3] * 1000
    first, second = (WholeSessionBatches(sessions_of(lengths), 4, 50, seed) for seed in (1, 2))

    starts = [int(batch.clicked[0]) // 3 for batch in batches(first)]
    places = np.abs(np.argsort(np.argsort(starts)) - np.arange(len(starts)))
    assert 0 < places.max() < STEPS_MIXED
    assert starts != [int(batch.clicked[0]) // 3 for batch in batches(second)]


@pytest.mark.parametrize("plan", ["lanes", "sessions"])
def test_sessions_of_one_click_are_refused(plan: str) -> None:
    sessions = sessions_of([3, 1])

    with pytest.raises(AssertionError, match="one click"):
        SessionParallelBatches(sessions, 2) if plan == "lanes" else WholeSessionBatches(
            sessions, 2, 50, 0
        )
