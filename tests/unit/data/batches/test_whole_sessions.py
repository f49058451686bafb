"""A plan that is read group by group has the steps of one that is made at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.batches import session_parallel, whole_sessions
from data.batches.batch import Batch, BatchPlan
from data.batches.selection import Selection
from data.batches.session_parallel import SessionParallelBatches
from data.batches.whole_sessions import WholeSessionBatches
from data.sessions import Sessions
from tests.support.training.whole_plan import SessionParallelAtOnce, WholeSessionsAtOnce

LENGTHS = st.lists(st.integers(2, 40), min_size=1, max_size=120)


def sessions_of(lengths: list[int]) -> Sessions:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    clicks = np.arange(int(offsets[-1]))
    return Sessions(clicks.astype(np.int32), clicks, offsets, tuple(map(str, clicks)))


def arrays_of(batch: Batch) -> list[list[int] | None]:
    found = [batch.inputs, batch.targets, batch.batch_sizes, batch.state_rows, batch.is_new_session]
    return [None if array is None else array.tolist() for array in found]


def check_equal(plan: BatchPlan, at_once: BatchPlan, order: list[int]) -> None:
    """Compare all steps in order, then some of them in any order."""
    assert (len(plan), plan.clicks) == (len(at_once), at_once.clicks)
    for step in [*range(len(plan)), *(number % len(plan) for number in order)]:
        assert arrays_of(plan[step]) == arrays_of(at_once[step])
        assert plan.clicks_before(step) == at_once.clicks_before(step)
    assert plan.clicks_before(len(plan)) == plan.clicks


@given(
    LENGTHS,
    st.integers(1, 6),
    st.integers(1, 45),
    st.integers(0, 3),
    st.integers(1, 130),
    st.lists(st.integers(0, 1000), max_size=10),
)
def test_any_step_is_that_of_the_plan_of_all_clicks(
    lengths: list[int], rows: int, longest: int, seed: int, at_once: int, order: list[int]
) -> None:
    sessions = sessions_of(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_sessions, "SESSIONS_AT_ONCE", at_once)
        plan = WholeSessionBatches(sessions, rows, longest, seed)

    check_equal(plan, WholeSessionsAtOnce(sessions, rows, longest, seed), order)


@given(LENGTHS, st.integers(1, 9), st.integers(1, 130), st.lists(st.integers(0, 1000), max_size=10))
def test_any_step_of_rows_is_that_of_the_plan_of_all_clicks(
    lengths: list[int], rows: int, between: int, order: list[int]
) -> None:
    sessions = sessions_of(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_parallel, "SESSIONS_BETWEEN_MARKS", between)
        check_equal(
            SessionParallelBatches(sessions, rows), SessionParallelAtOnce(sessions, rows), order
        )


@given(LENGTHS, st.data())
def test_a_cut_log_is_planned_as_its_copy(lengths: list[int], data: st.DataObject) -> None:
    sessions = sessions_of(lengths)
    kept = np.array([data.draw(st.sampled_from([0, 2, n])) for n in lengths], dtype=np.int32)
    kept[data.draw(st.integers(0, len(lengths) - 1))] = 2
    cut = Selection(sessions, kept)

    whole = WholeSessionsAtOnce(cut.sessions(), 3, 5, seed=1)
    check_equal(WholeSessionBatches(cut, 3, 5, seed=1), whole, [])
    check_equal(SessionParallelBatches(cut, 3), SessionParallelAtOnce(cut.sessions(), 3), [])


def test_items_are_read_as_indices_of_the_catalogue() -> None:
    sessions = sessions_of([3, 2])  # items 0 1 2 | 3 4
    indexed = Selection(sessions).indexed(["4", "3", "2", "1", "0"])

    batch = WholeSessionBatches(indexed, 2, 50, seed=0)[0]

    assert batch.inputs.tolist() == [4, 1, 3]  # items 0 and 3, then 1
    assert batch.targets.tolist() == [3, 0, 2]


def test_a_row_longer_than_a_group_is_a_step_of_its_own() -> None:
    sessions = sessions_of([2, 2, 400, 2, 2, 2])
    plan = WholeSessionBatches(sessions, 1, 500, seed=0)

    check_equal(plan, WholeSessionsAtOnce(sessions, 1, 500, seed=0), [])
    assert 399 in {len(plan[step]) for step in range(len(plan))}
