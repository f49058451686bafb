import math

import numpy as np
import pytest

from data.sessions import known_items, reindex
from recsys.catalogue.catalogue import Catalogue
from tests.support.training.builders import words
from training.baselines.item_to_item import ItemToItem, item_neighbours, markov, sequential_rules

TRAIN = words("abab", "ac", "bc", "bd", "ab")
IDS = known_items(TRAIN)
INDEXED = reindex(TRAIN, IDS)
CATALOGUE = Catalogue(IDS, INDEXED.counts())
A, B, C, D = range(4)


def after(model: ItemToItem, *clicks: int) -> dict[str, float]:
    """Return the scores after some clicks; popularity alone is below 1."""
    scores = model.scores_along([np.array([*clicks, 0], dtype=np.int32)])[-1]
    return {item: round(score, 2) for item, score in zip(IDS, scores.tolist(), strict=True)}


def test_markov_counts_the_items_clicked_directly_after() -> None:
    found = after(markov(CATALOGUE, INDEXED), A)

    assert [int(found[item]) for item in IDS] == [0, 3, 1, 0]  # ab three times, ac once


def test_popularity_breaks_ties_and_decides_nothing_else() -> None:
    scores = markov(CATALOGUE, INDEXED).scores_along([np.array([B, 0], dtype=np.int32)])[0]
    order = [IDS[item] for item in scores.argsort(descending=True).tolist()]

    assert order == ["a", "c", "d", "b"]  # a, c, d once each; a is the most popular of them


def test_a_rule_across_d_clicks_weighs_one_over_d() -> None:
    model = sequential_rules(CATALOGUE, reindex(words("abcd"), IDS))

    scores = model.scores_along([np.array([A, 0], dtype=np.int32)])[0]

    np.testing.assert_allclose(scores[[B, C, D]].numpy(), [1, 1 / 2, 1 / 3], atol=0.17)
    assert scores[B] > scores[C] > scores[D] > scores[A]


def test_rules_end_with_the_session() -> None:
    model = sequential_rules(CATALOGUE, reindex(words("ab", "cd"), IDS))

    scores = model.scores_along([np.array([B, 0], dtype=np.int32)])[0]

    assert scores.max() < 1  # nothing ever came after b


def test_item_neighbours_are_damped_cosines_of_the_sessions() -> None:
    model = item_neighbours(CATALOGUE, INDEXED)

    scores = model.scores_along([np.array([A, 0], dtype=np.int32)])[0]

    together = 2 / (math.sqrt(3 * 4) + 20)  # a in 3 sessions, b in 4, both in 2
    assert scores[B].item() == pytest.approx(together, rel=0.3)
    assert scores[B] > scores[C] > scores[D]


@pytest.mark.parametrize("build", [markov, sequential_rules, item_neighbours])
def test_an_unknown_click_changes_nothing(build: type) -> None:
    model = build(CATALOGUE, INDEXED)

    scores = model.scores_along([np.array([A, -1, 0], dtype=np.int32)])

    assert scores[0].tolist() == scores[1].tolist()
