import numpy as np
import torch

from data.sessions import known_items, reindex
from recsys.catalogue.catalogue import Catalogue
from tests.support.training.builders import words
from training.baselines.popularity import (
    RECENT_SHARE,
    Popularity,
    SessionPopularity,
    recent_popularity,
)

TRAIN = words("abab", "ac", "bc", "bd", "ab")
CATALOGUE = Catalogue(known_items(TRAIN), reindex(TRAIN, known_items(TRAIN)).counts())


def order(scores: torch.Tensor) -> str:
    """Return the items of each case, best first, as one word."""
    ranked = torch.argsort(scores, dim=1, descending=True)
    return " ".join("".join(CATALOGUE.item_ids[i] for i in row) for row in ranked.tolist())


def test_popularity_gives_every_session_the_same_list() -> None:
    scores = Popularity(CATALOGUE).scores_along([np.array([2, 3, 0])])

    assert order(scores) == "bacd bacd"  # b 5 clicks, a 4, c 2, d 1


def test_session_popularity_counts_this_session_first() -> None:
    d, c, z = 3, 2, -1
    scores = SessionPopularity(CATALOGUE).scores_along([np.array([d, c, z, c, 0])])

    assert order(scores) == "dbac cdba cdba cdba"  # d and c tie once: the popular c first


def test_recent_popularity_ignores_old_sessions() -> None:
    old, new = ["ab"] * 99, ["cd", "cd", "c"]
    train = words(*old, *new)
    ids = known_items(train)
    indexed = reindex(train, ids)

    scores = recent_popularity(Catalogue(ids, indexed.counts()), indexed).scores_along(
        [np.array([0, 1])]
    )

    assert int(len(train) * RECENT_SHARE) == 5  # ab ab cd cd c: c three times, the others twice
    assert ids[int(scores[0].argmax())] == "c"
