"""Both plans have every pair of consecutive clicks once; they differ in what forms a batch."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.batches.batch import Batch, BatchPlan
from data.batches.session_parallel import SessionParallelBatches
from data.batches.whole_sessions import STEPS_MIXED, WholeSessionBatches
from data.sessions import Sessions

LENGTHS = st.lists(st.integers(2, 9), min_size=1, max_size=60)


def sessions_of(lengths: list[int]) -> Sessions:
    """Return sessions whose n-th click is on item n, so that every pair differs."""
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


def pairs_in(steps: BatchPlan) -> Counter[tuple[int, int]]:
    return Counter(
        (int(item), int(target))
        for batch in batches(steps)
        for item, target in zip(batch.inputs, batch.targets, strict=True)
    )


def batches(steps: BatchPlan) -> list[Batch]:
    return [steps[step] for step in range(len(steps))]


def test_a_row_that_ends_takes_the_next_waiting_session() -> None:
    steps = SessionParallelBatches(sessions_of([3, 2, 2]), rows=2)  # clicks 0 1 2 | 3 4 | 5 6

    seen = [
        (b.inputs.tolist(), b.targets.tolist(), b.is_new_session.tolist())
        for b in batches(steps)
        if b.is_new_session is not None
    ]

    assert seen == [([0, 3], [1, 4], [True, True]), ([1, 5], [2, 6], [False, True])]


def test_the_last_batches_have_fewer_rows() -> None:
    steps = SessionParallelBatches(sessions_of([4, 2]), rows=2)

    assert [len(batch) for batch in batches(steps)] == [2, 1, 1]
    assert steps[2].state_rows is not None
    assert steps[2].state_rows.tolist() == [0]


def test_fewer_sessions_than_rows_are_possible() -> None:
    steps = SessionParallelBatches(sessions_of([2]), rows=128)

    assert len(steps) == 1
    assert steps[0].inputs.tolist() == [0]


@given(LENGTHS, st.integers(1, 8))
def test_every_row_has_its_sessions_in_order_and_marks_their_starts(
    lengths: list[int], rows: int
) -> None:
    """Checklist 1 and 9: the reset happens at a session's start only; no session is cut short."""
    sessions = sessions_of(lengths)
    steps = SessionParallelBatches(sessions, rows)
    last_of_row: dict[int, int] = {}
    for batch in batches(steps):
        assert batch.state_rows is not None
        assert batch.is_new_session is not None
        assert batch.batch_sizes.tolist() == [len(batch)]
        for row, item, target, is_new in zip(
            batch.state_rows.tolist(),
            batch.inputs,
            batch.targets,
            batch.is_new_session,
            strict=True,
        ):
            assert is_new == (item in sessions.offsets)
            assert is_new or last_of_row[row] == item
            last_of_row[row] = int(target)

    assert pairs_in(steps) == pairs_of(lengths)
    assert steps.clicks == sum(lengths) - len(lengths)
    assert steps.clicks_before(len(steps)) == steps.clicks


def test_whole_sessions_are_packed_longest_first() -> None:
    steps = WholeSessionBatches(sessions_of([2, 4, 3]), rows=3, longest=50, seed=0)

    assert len(steps) == 1
    batch = steps[0]  # clicks 0 1 | 2 3 4 5 | 6 7 8
    assert batch.state_rows is None
    assert batch.batch_sizes.tolist() == [3, 2, 1]
    assert batch.inputs.tolist() == [2, 6, 0, 3, 7, 4]
    assert batch.targets.tolist() == [3, 7, 1, 4, 8, 5]


def test_a_session_longer_than_the_window_is_cut_and_loses_no_pair() -> None:
    steps = WholeSessionBatches(sessions_of([8]), rows=4, longest=3, seed=0)

    assert pairs_in(steps) == pairs_of([8])
    assert all(len(batch.batch_sizes) <= 3 for batch in batches(steps))


@given(LENGTHS, st.integers(1, 8), st.integers(1, 9), st.integers(0, 5))
def test_every_pair_of_whole_sessions_occurs_once_in_the_order_of_its_session(
    lengths: list[int], rows: int, longest: int, seed: int
) -> None:
    steps = WholeSessionBatches(sessions_of(lengths), rows, longest, seed)

    assert pairs_in(steps) == pairs_of(lengths)
    assert steps.clicks == sum(lengths) - len(lengths)
    for batch in batches(steps):
        assert (np.diff(batch.batch_sizes) <= 0).all()
        at = 0
        for rows_now, rows_next in zip(batch.batch_sizes, batch.batch_sizes[1:], strict=False):
            now, then = batch.targets[at : at + rows_next], batch.inputs[at + rows_now :]
            assert (now == then[:rows_next]).all()  # a target is the next input of its row
            at += rows_now


@given(st.integers(1, 20), st.integers(0, 3))
def test_steps_of_whole_sessions_have_about_the_requested_number_of_clicks(
    rows: int, seed: int
) -> None:
    lengths = np.random.default_rng(seed).integers(2, 7, size=400).tolist()
    steps = WholeSessionBatches(sessions_of(lengths), rows, 50, seed)

    expected = rows * steps.clicks / len(lengths)
    sizes = [len(batch) for batch in batches(steps)]
    assert max(sizes) <= 1.5 * expected + 5


def test_time_order_holds_but_for_a_few_steps_which_the_seed_mixes() -> None:
    lengths = [3] * 1000
    first, second = (WholeSessionBatches(sessions_of(lengths), 4, 50, seed) for seed in (1, 2))

    starts = [int(batch.inputs[0]) // 3 for batch in batches(first)]
    places = np.abs(np.argsort(np.argsort(starts)) - np.arange(len(starts)))
    assert 0 < places.max() < STEPS_MIXED
    assert starts != [int(batch.inputs[0]) // 3 for batch in batches(second)]


@pytest.mark.parametrize("plan", ["session-parallel", "sessions"])
def test_sessions_of_one_click_are_refused(plan: str) -> None:
    sessions = sessions_of([3, 1])

    with pytest.raises(AssertionError, match="one click"):
        SessionParallelBatches(sessions, 2) if plan == "session-parallel" else WholeSessionBatches(
            sessions, 2, 50, 0
        )


@given(LENGTHS, st.integers(1, 5), st.sampled_from(["whole", "session-parallel"]))
def test_processes_share_the_rows_of_a_mini_batch(lengths: list[int], size: int, kind: str) -> None:
    sessions = sessions_of(lengths)
    plan: BatchPlan = SessionParallelBatches(sessions, rows=3)
    if kind == "whole":
        plan = WholeSessionBatches(sessions, rows=3, longest=4, seed=0)
    for batch in batches(plan):
        seen = []
        for rank in range(size):
            part = batch.part_of(rank, size)
            clicks = np.arange(len(batch)) if part.clicks is None else part.clicks
            rows = np.arange(batch.batch_sizes[0]) if part.rows is None else part.rows
            assert part.batch.inputs.tolist() == batch.inputs[clicks].tolist()
            assert part.batch.targets.tolist() == batch.targets[clicks].tolist()
            if len(part.batch) > 0:  # a whole row belongs to one process
                assert rows[part.batch.row_of_click].tolist() == batch.row_of_click[clicks].tolist()
            if batch.state_rows is not None and part.batch.state_rows is not None:
                assert part.batch.state_rows.tolist() == batch.state_rows[rows].tolist()
                assert {row % size for row in part.batch.state_rows.tolist()} <= {rank}
            seen += clicks.tolist()
        assert sorted(seen) == list(range(len(batch)))
