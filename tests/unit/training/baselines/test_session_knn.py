import math

import numpy as np
import pytest

from data.sessions import known_items, reindex
from recsys.catalogue.catalogue import Catalogue
from recsys.neighbours.scoring import NeighbourSettings
from tests.support.training.builders import words
from training.baselines.session_knn import NeighbourBaseline

TRAIN = words("ab", "ac", "bcd", "ef")
IDS = known_items(TRAIN)
INDEXED = reindex(TRAIN, IDS)
CATALOGUE = Catalogue(IDS, INDEXED.counts())
A, B, C, D, E, F = range(6)
PLAIN = NeighbourSettings(idf=0.0)


def scores(settings: NeighbourSettings, *clicks: int) -> dict[str, float]:
    model = NeighbourBaseline(CATALOGUE, INDEXED, settings)
    found = model.scores_along([np.array([*clicks, 0], dtype=np.int32)])[-1]
    return dict(zip(IDS, found.tolist(), strict=True))


def test_neighbours_vote_with_the_recency_of_what_they_share() -> None:
    """After a, b: session ab shares both (1/2 + 1), ac shares a (1/2), bcd shares b (1)."""
    found = scores(PLAIN, A, B)

    ab, ac, bcd = (1 / 2 + 1) * 1, (1 / 2) * (1 / 2), 1 * 1
    assert found["a"] == pytest.approx(ab + ac, rel=0.01)
    assert found["b"] == pytest.approx(ab + bcd, rel=0.01)
    assert found["c"] == pytest.approx(ac + bcd, rel=0.01)
    assert found["d"] == pytest.approx(bcd, rel=0.01)
    assert found["e"] < 0.01


def test_rare_items_count_more() -> None:
    plain, weighed = scores(PLAIN, B), scores(NeighbourSettings(idf=1.0), B)

    assert plain["c"] == pytest.approx(plain["d"], rel=0.01)
    assert weighed["d"] / plain["d"] == pytest.approx(1 + math.log(4 / 1), rel=0.01)


def test_only_the_most_similar_sessions_vote() -> None:
    found = scores(NeighbourSettings(idf=0.0, neighbours=1), A, B)

    assert found["a"] == pytest.approx(found["b"], rel=0.01)
    assert found["c"] < 0.01


def test_only_the_newest_sessions_are_compared() -> None:
    found = scores(NeighbourSettings(idf=0.0, candidates=1), A)

    assert found["c"] == pytest.approx(1, rel=0.01)  # session ac is newer than ab
    assert found["b"] < 0.01


def test_items_near_the_shared_item_count_more() -> None:
    found = scores(NeighbourSettings(idf=0.0, distance_decay=1.0), B)

    assert found["c"] / found["d"] == pytest.approx(math.exp(-1) / math.exp(-2), rel=0.01)


def test_old_sessions_count_less() -> None:
    millisecond_days = 1 / 86_400_000
    settings = NeighbourSettings(idf=0.0, age_decay_days=1000 * millisecond_days)

    found = scores(settings, A)

    # sessions start a second apart: ab is 3 s older than the newest click, ac 2 s
    assert found["c"] / found["b"] == pytest.approx(math.exp(-2) / math.exp(-3), rel=0.01)


def test_an_unknown_session_gets_the_popular_list() -> None:
    found = scores(PLAIN, -1)

    assert list(found.values()) == pytest.approx(CATALOGUE.popularity.tolist())


def test_a_case_does_not_change_the_next() -> None:
    model = NeighbourBaseline(CATALOGUE, INDEXED, NeighbourSettings(candidates=2, neighbours=1))
    session = np.array([A, B, C, 0], dtype=np.int32)

    first, second = model.scores_along([session]), model.scores_along([session])

    assert first.tolist() == second.tolist()
