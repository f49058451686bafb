from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.batches import LanePlan
from data.sessions import Sessions


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


def test_a_lane_that_ends_takes_the_next_waiting_session() -> None:
    plan = LanePlan(sessions_of([3, 2, 2]), lanes=2)  # clicks 0 1 2 | 3 4 | 5 6

    batches = [plan[step] for step in range(len(plan))]
    steps = [(b.clicked.tolist(), b.following.tolist(), b.fresh.tolist()) for b in batches]

    assert steps == [
        ([0, 3], [1, 4], [True, True]),
        ([1, 5], [2, 6], [False, True]),
    ]


def test_the_batch_narrows_when_nobody_waits() -> None:
    plan = LanePlan(sessions_of([4, 2]), lanes=2)

    assert [len(plan[step]) for step in range(len(plan))] == [2, 1, 1]
    assert plan[2].lanes.tolist() == [0]


def test_fewer_sessions_than_lanes_are_read_too() -> None:
    plan = LanePlan(sessions_of([2]), lanes=128)

    assert len(plan) == 1
    assert plan[0].clicked.tolist() == [0]


@given(st.lists(st.integers(2, 9), min_size=1, max_size=40), st.integers(1, 8))
def test_every_pair_is_learned_once_in_order_and_each_session_begins_fresh(
    lengths: list[int], lanes: int
) -> None:
    """Checklist 1 and 9: the reset happens at a session's start only; no session is cut short."""
    sessions = sessions_of(lengths)
    plan = LanePlan(sessions, lanes)
    pairs: Counter[tuple[int, int]] = Counter()
    last_in_lane: dict[int, int] = {}
    for step in range(len(plan)):
        batch = plan[step]
        for lane, clicked, following, fresh in zip(
            batch.lanes.tolist(), batch.clicked, batch.following, batch.fresh, strict=True
        ):
            pairs[int(clicked), int(following)] += 1
            assert fresh == (clicked in sessions.offsets)
            assert fresh or last_in_lane[lane] == clicked
            last_in_lane[lane] = int(following)

    starts = [(int(c), int(c) + 1) for c in range(sum(lengths)) if c + 1 not in sessions.offsets]
    assert pairs == Counter(starts)
    assert plan.events == len(starts)
    assert plan.events_before(len(plan)) == plan.events
