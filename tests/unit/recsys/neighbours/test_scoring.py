"""Many cases at once give what the definition gives one case after the other."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sessions import reindex
from recsys.neighbours.scoring import NeighbourSettings, SessionNeighbours
from recsys.ragged import rows_of
from tests.support.training.builders import words
from training.baselines.session_knn import build_neighbour_index

IDS = tuple("abcdef")
WORDS = st.lists(st.text("abcdef", min_size=1, max_size=6), min_size=1, max_size=12)
WINDOWS = st.lists(st.lists(st.integers(-1, 5), max_size=7), min_size=1, max_size=6)
SETTINGS = st.builds(
    NeighbourSettings,
    neighbours=st.integers(1, 4),
    candidates=st.integers(1, 5),
    click_decay=st.sampled_from([None, 0.7, 2.0]),
    age_decay_days=st.sampled_from([None, 1e-4]),
    distance_decay=st.sampled_from([None, 1.5]),
    idf=st.sampled_from([0.0, 1.0]),
)


def by_definition(
    train: list[str], settings: NeighbourSettings, window: list[int]
) -> dict[int, float]:
    """V-SKNN and VSTAN as the papers write them: one session, one item, one click at a time."""
    sessions = [[IDS.index(item) for item in word] for word in train]
    weights: dict[int, float] = {}
    for back, item in enumerate(reversed(window)):
        linear, decay = 1 - back / len(window), settings.click_decay
        weights.setdefault(item, linear if decay is None else math.exp(-back / decay))
    weights.pop(-1, None)
    newest = range(len(sessions) - 1, -1, -1)
    held = {i: [s for s in newest if i in sessions[s]][: settings.candidates] for i in weights}
    candidates = [s for s in newest if any(s in held[i] for i in weights)][: settings.candidates]
    similarity, shared = {}, {}
    for s in candidates:
        common = [i for i in weights if s in held[i]]  # the one clicked last stands first
        shared[s] = max(at for at, item in enumerate(sessions[s]) if item == common[0])
        age = (len(sessions) - 1 - s) / 86_400  # the builder puts a second between two sessions
        fresh = 1.0 if settings.age_decay_days is None else math.exp(-age / settings.age_decay_days)
        similarity[s] = sum(weights[i] for i in common) * weights[common[0]] * fresh
    nearest = sorted(similarity, key=lambda s: (-np.float32(similarity[s]), -s))
    scores: dict[int, float] = {}
    for s in nearest[: settings.neighbours]:
        for at, item in enumerate(sessions[s]):
            far, holders = abs(at - shared[s]), sum(item in other for other in sessions)
            near = settings.distance_decay
            vote = similarity[s] * (1.0 if near is None else math.exp(-far / near))
            rare = 1 + settings.idf * math.log(len(sessions) / holders)
            scores[item] = scores.get(item, 0.0) + vote * rare
    return scores


def neighbours(train: list[str], settings: NeighbourSettings) -> SessionNeighbours:
    indexed = reindex(words(*train), IDS)
    return SessionNeighbours(
        build_neighbour_index(indexed, len(IDS), settings.candidates), settings
    )


@given(WORDS, SETTINGS, WINDOWS)
def test_scores_are_those_of_the_definition(
    train: list[str], settings: NeighbourSettings, windows: list[list[int]]
) -> None:
    found = neighbours(train, settings).score(rows_of(windows))

    for case, window in enumerate(windows):
        row = slice(found.offsets[case], found.offsets[case + 1])
        scores = dict(zip(found.items[row].tolist(), found.scores[row].tolist(), strict=True))
        assert list(scores) == sorted(scores)
        assert scores == pytest.approx(by_definition(train, settings, window), rel=1e-5)


@pytest.mark.parametrize("candidates", [1, 16, 17, 40])
def test_sessions_of_popular_items_count_as_far_as_the_candidates_reach(candidates: int) -> None:
    random = np.random.default_rng(candidates)
    train = ["".join(random.choice(list("aaaabbbccdef"), 3)) for _ in range(150)]
    settings = NeighbourSettings(neighbours=30, candidates=candidates, click_decay=2.0)
    windows = [[0, 1], [2, 0, 5], [3], [1, 2, 3, 4]]
    found = neighbours(train, settings).score(rows_of(windows))

    for case, scores in enumerate(found.lists()):
        expected = by_definition(train, settings, windows[case])
        row = slice(found.offsets[case], found.offsets[case + 1])
        got = dict(zip(scores, found.scores[row].tolist(), strict=True))
        assert got == pytest.approx(expected, rel=1e-5)


@given(WORDS, SETTINGS, WINDOWS)
def test_a_row_is_the_same_bit_for_bit_whatever_stands_beside_it(
    train: list[str], settings: NeighbourSettings, windows: list[list[int]]
) -> None:
    model = neighbours(train, settings)
    together = model.score(rows_of(windows))

    alone = [model.score(rows_of([window])) for window in windows]

    assert together.items.tolist() == np.concatenate([one.items for one in alone]).tolist()
    assert together.scores.tolist() == np.concatenate([one.scores for one in alone]).tolist()


def test_of_equally_similar_sessions_the_newer_is_asked() -> None:
    found = neighbours(["ab", "ac", "ad"], NeighbourSettings(neighbours=1)).score(rows_of([[0]]))

    assert found.items.tolist() == [0, 3]


def test_nothing_known_finds_nobody() -> None:
    model = neighbours(["ab", "cd"], NeighbourSettings())

    assert model.score(rows_of([[], [-1], [5]])).offsets.tolist() == [0, 0, 0, 0]
    assert len(model.score(rows_of([]))) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"neighbours": 0},
        {"candidates": 1.5},
        {"candidates": 1 << 21},
        {"idf": -1.0},
        {"age_decay_days": 0.0},
        {"idf": "1"},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Neighbour settings"):
        NeighbourSettings(**wrong)  # type: ignore[arg-type]
