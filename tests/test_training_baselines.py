import numpy as np
import pytest
import torch
from builders import words

from data.sessions import known_items, reindex
from recsys.catalogue import Catalogue
from training.baselines import Markov, Popularity, SessionPopularity

TRAIN = words("abab", "ac", "bc", "bd", "ab")
CATALOGUE = Catalogue(known_items(TRAIN), reindex(TRAIN, known_items(TRAIN)).counts())


def order(scores: torch.Tensor) -> str:
    """Items of each case, best first, as one word."""
    ranked = torch.argsort(scores, dim=1, descending=True)
    return " ".join("".join(CATALOGUE.item_ids[i] for i in row) for row in ranked.tolist())


def test_popularity_answers_everybody_alike() -> None:
    scores = Popularity(CATALOGUE).scores_along([np.array([2, 3, 0])])

    assert order(scores) == "bacd bacd"  # b 5 clicks, a 4, c 2, d 1


def test_session_popularity_counts_this_session_first() -> None:
    d, c, z = 3, 2, -1
    scores = SessionPopularity(CATALOGUE).scores_along([np.array([d, c, z, c, 0])])

    assert order(scores) == "dbac cdba cdba cdba"  # d and c tie once: the popular c first


def test_markov_says_what_followed_the_last_click() -> None:
    model = Markov(CATALOGUE, reindex(TRAIN, CATALOGUE.item_ids))

    scores = model.scores_along([np.array([0, 1, 2])])

    assert order(scores).split()[0] == "bcad"  # after a: b three times, c once
    assert scores[1].tolist() == pytest.approx(
        (np.array([1, 0, 1, 1]) + CATALOGUE.popularity).tolist()
    )  # after b: a, c and d once each


def test_an_unknown_click_moves_markov_nowhere() -> None:
    model = Markov(CATALOGUE, reindex(TRAIN, CATALOGUE.item_ids))

    scores = model.scores_along([np.array([-1, 0, -1, 0])])

    assert order(scores).split() == ["bacd", "bcad", "bcad"]
