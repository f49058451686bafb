"""A sample of sessions to evaluate has whole sessions, about as many cases as asked for."""

import numpy as np
import pytest

from data.batches import selection
from data.sessions import Sessions
from training.evaluation import sample
from training.evaluation.sample import sampled

LENGTHS = [2, 5, 1, 3] * 1000  # 1 + 4 + 0 + 2 = 7 cases of each four


def sessions_of(lengths: list[int]) -> Sessions:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    clicks = np.arange(int(offsets[-1]))
    return Sessions(clicks.astype(np.int32), clicks, offsets, tuple(map(str, clicks)))


@pytest.mark.parametrize("most", [0, 7000, 7001])
def test_sessions_with_few_enough_cases_are_evaluated_as_they_are(most: int) -> None:
    sessions = sessions_of(LENGTHS)

    found = sampled(sessions, most)

    assert found.sessions is sessions
    assert not found.is_part


def test_a_sample_has_whole_sessions_and_about_the_number_of_cases() -> None:
    sessions = sessions_of(LENGTHS)

    found = sampled(sessions, 2000)

    assert found.is_part
    assert (found.of_sessions, found.of_cases) == (3000, 7000)  # a session of one click has none
    assert 1800 < found.cases < 2200
    starts = set(sessions.offsets[:-1].tolist())
    lengths = dict(zip(sessions.offsets.tolist(), LENGTHS, strict=False))
    for number in range(len(found.sessions)):
        items = found.sessions[number].tolist()
        assert items[0] in starts
        assert items == list(range(items[0], items[0] + lengths[items[0]]))
        assert len(items) >= 2


def test_the_sample_does_not_depend_on_how_the_log_is_read() -> None:
    sessions = sessions_of(LENGTHS)
    expected = sampled(sessions, 2000).sessions.items.tolist()
    with pytest.MonkeyPatch.context() as patch:
        for module in (sample, selection):
            patch.setattr(module, "SESSIONS_AT_ONCE", 17)
        found = sampled(sessions, 2000).sessions.items.tolist()

    assert found == expected


def test_the_sentence_says_how_much_is_evaluated() -> None:
    found = sampled(sessions_of(LENGTHS), 2000)

    assert found.describe("test") == (
        "The test part has 7,000 next clicks. A random sample is evaluated: "
        f"{len(found.sessions):,} of 3,000 sessions, {found.cases:,} next clicks."
    )
