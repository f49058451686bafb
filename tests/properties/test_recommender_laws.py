"""What every recommender must do: models of every kind and all baselines."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data.click_options import ClickOptions
from data.prepare import prepare
from data.sessions import Sessions, reindex
from recsys.bundle.golden import open_predictor
from recsys.model.ranking import top_k
from recsys.predictor import Predictor
from tests.support.bundles.model_kinds import KINDS, ModelKinds
from tests.support.bundles.trained_shop import SMALL, TrainedShop
from training.baselines.popularity import baselines
from training.evaluation.evaluate import Scorer, evaluate

NAMES = (
    "model",
    "blended",
    "popularity",
    "recent popularity",
    "session popularity",
    "markov",
    "sequential rules",
    "item-knn",
    "v-sknn",
    "vstan",
)


@pytest.fixture(scope="module")
def sessions(trained: TrainedShop, predictor: Predictor) -> tuple[Sessions, Sessions]:
    """Training and test sessions in the catalogue's indices."""
    prepared = prepare(ClickOptions(trained.clicks))
    ids = predictor.catalogue.item_ids
    return reindex(prepared.train, ids), reindex(prepared.test, ids)


@pytest.fixture(scope="module")
def scorers(
    predictor: Predictor, blended: TrainedShop, sessions: tuple[Sessions, Sessions]
) -> dict[str, Scorer]:
    return {
        "model": predictor,
        "blended": open_predictor(blended.bundle),
        **baselines(predictor.catalogue, sessions[0]),
    }


@pytest.fixture(scope="module", params=(*NAMES, *KINDS))
def scorer(request: pytest.FixtureRequest, scorers: dict[str, Scorer], zoo: ModelKinds) -> Scorer:
    if request.param in KINDS:
        return zoo.scripted(request.param)
    assert tuple(scorers) == NAMES
    return scorers[request.param]


def some(sessions: tuple[Sessions, Sessions], count: int = 20) -> Sequence[NDArray[np.int32]]:
    return [sessions[1][s] for s in range(count)]


def test_there_is_one_row_of_scores_for_every_next_click(
    scorer: Scorer, predictor: Predictor, sessions: tuple[Sessions, Sessions]
) -> None:
    asked = some(sessions)

    scores = scorer.scores_along(asked)

    assert scores.shape == (sum(len(s) - 1 for s in asked), len(predictor.catalogue))


def test_lists_hold_distinct_known_items_in_falling_score(
    scorer: Scorer, predictor: Predictor, sessions: tuple[Sessions, Sessions]
) -> None:
    best, items = top_k(scorer.scores_along(some(sessions)), 20)

    assert (best[:, 1:] <= best[:, :-1]).all()
    assert all(len(set(row)) == 20 for row in items.tolist())
    assert 0 <= items.min() <= items.max() < len(predictor.catalogue)


def test_alone_and_in_company_scores_are_the_same(
    scorer: Scorer, sessions: tuple[Sessions, Sessions]
) -> None:
    asked = some(sessions)

    alone = torch.cat([scorer.scores_along([session]) for session in asked])

    torch.testing.assert_close(scorer.scores_along(asked), alone, atol=1e-5, rtol=1e-5)


def test_a_session_knows_nothing_of_its_future(
    scorer: Scorer, sessions: tuple[Sessions, Sessions]
) -> None:
    session = max(some(sessions), key=len)

    whole, cut = scorer.scores_along([session]), scorer.scores_along([session[:-1]])

    torch.testing.assert_close(whole[:-1], cut, atol=1e-5, rtol=1e-5)


def test_equal_scores_never_decide_a_metric(
    scorer: Scorer, predictor: Predictor, sessions: tuple[Sessions, Sessions]
) -> None:
    assert evaluate(scorer, sessions[1], len(predictor.catalogue)).warning is None


def test_the_planted_successor_is_found(trained: TrainedShop, predictor: Predictor) -> None:
    """Every item's next product is known by construction; the model must put it first."""
    shop, catalogue = trained.shop, predictor.catalogue
    ids = shop.table()["item_id"].tolist()
    found = 0
    for item in range(len(shop)):
        after = ids[int(shop.successor(np.array([item]))[0])]
        best = predictor.recommend([catalogue.index(ids[item])]).items[0]
        found += catalogue.item_ids[best] == after

    assert found / len(shop) > 0.95


def test_the_model_beats_markov_on_a_walk_made_for_markov(
    predictor: Predictor, scorers: dict[str, Scorer], sessions: tuple[Sessions, Sessions]
) -> None:
    recall = {
        name: evaluate(scorers[name], sessions[1], len(predictor.catalogue)).metrics["recall@20"]
        for name in ("model", "markov", "popularity")
    }

    assert recall["model"] > recall["markov"] > recall["popularity"]


@pytest.mark.parametrize("kind", KINDS)
def test_eager_and_scripted_models_score_alike(
    zoo: ModelKinds, sessions: tuple[Sessions, Sessions], kind: str
) -> None:
    eager, scripted = (
        p.scores_along(some(sessions)) for p in (zoo.eager(kind), zoo.scripted(kind))
    )

    torch.testing.assert_close(eager, scripted, atol=1e-5, rtol=1e-5)


def test_loading_again_changes_nothing(
    any_shop: TrainedShop, sessions: tuple[Sessions, Sessions]
) -> None:
    first, again = open_predictor(any_shop.bundle), open_predictor(any_shop.bundle)

    asked = some(sessions)
    assert torch.equal(again.scores_along(asked), first.scores_along(asked))
    assert again.window == SMALL.window


def test_what_follows_one_session_is_what_evaluation_scores(
    any_shop: TrainedShop, sessions: tuple[Sessions, Sessions]
) -> None:
    """`recommend` answers from a state and a window, `scores_along` from whole sessions."""
    predictor = open_predictor(any_shop.bundle)
    session = max(some(sessions), key=len)

    along = predictor.scores_along([session])

    for click in range(len(session) - 1):
        known = [item for item in session[: click + 1].tolist() if item >= 0]
        answer = predictor.recommend(known)
        torch.testing.assert_close(
            along[click, answer.items], torch.tensor(answer.scores), atol=1e-5, rtol=1e-5
        )
