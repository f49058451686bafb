"""Laws of every recommender: models of every kind and all baselines."""

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
from training.baselines import baselines
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
    """Return training and test sessions as catalogue indices."""
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
def scorer(
    request: pytest.FixtureRequest, scorers: dict[str, Scorer], model_kinds: ModelKinds
) -> Scorer:
    if request.param in KINDS:
        return model_kinds.scripted(request.param)
    assert tuple(scorers) == NAMES
    return scorers[request.param]


def first_sessions(sessions: tuple[Sessions, Sessions]) -> Sequence[NDArray[np.int32]]:
    return [sessions[1][s] for s in range(20)]


def test_there_is_one_row_of_scores_for_every_next_click(
    scorer: Scorer, predictor: Predictor, sessions: tuple[Sessions, Sessions]
) -> None:
    sample = first_sessions(sessions)

    scores = scorer.scores_along(sample)

    assert scores.shape == (sum(len(s) - 1 for s in sample), len(predictor.catalogue))


def test_lists_hold_unique_known_items_in_falling_score(
    scorer: Scorer, predictor: Predictor, sessions: tuple[Sessions, Sessions]
) -> None:
    best, items = top_k(scorer.scores_along(first_sessions(sessions)), 20)

    assert (best[:, 1:] <= best[:, :-1]).all()
    assert all(len(set(row)) == 20 for row in items.tolist())
    assert 0 <= items.min() <= items.max() < len(predictor.catalogue)


def test_scores_of_a_session_do_not_depend_on_the_other_sessions(
    scorer: Scorer, sessions: tuple[Sessions, Sessions]
) -> None:
    sample = first_sessions(sessions)

    alone = torch.cat([scorer.scores_along([session]) for session in sample])

    torch.testing.assert_close(scorer.scores_along(sample), alone, atol=1e-5, rtol=1e-5)


def test_scores_do_not_depend_on_later_clicks(
    scorer: Scorer, sessions: tuple[Sessions, Sessions]
) -> None:
    session = max(first_sessions(sessions), key=len)

    whole, cut = scorer.scores_along([session]), scorer.scores_along([session[:-1]])

    torch.testing.assert_close(whole[:-1], cut, atol=1e-5, rtol=1e-5)


def test_equal_scores_never_decide_a_metric(
    scorer: Scorer, predictor: Predictor, sessions: tuple[Sessions, Sessions]
) -> None:
    assert evaluate(scorer, sessions[1], len(predictor.catalogue)).warning is None


def test_the_model_finds_the_known_successor(trained: TrainedShop, predictor: Predictor) -> None:
    """The shop is built so that every item has one next product; the model puts it first."""
    shop, catalogue = trained.shop, predictor.catalogue
    ids = shop.table()["item_id"].tolist()
    found = 0
    for item in range(len(shop)):
        after = ids[int(shop.successor(np.array([item]))[0])]
        best = predictor.recommend([catalogue.index(ids[item])]).items[0]
        found += catalogue.item_ids[best] == after

    assert found / len(shop) > 0.95


def test_the_model_beats_markov_on_clicks_of_a_markov_chain(
    predictor: Predictor, scorers: dict[str, Scorer], sessions: tuple[Sessions, Sessions]
) -> None:
    recall = {
        name: evaluate(scorers[name], sessions[1], len(predictor.catalogue)).metrics["recall@20"]
        for name in ("model", "markov", "popularity")
    }

    assert recall["model"] > recall["markov"] > recall["popularity"]


@pytest.mark.parametrize("kind", KINDS)
def test_eager_and_scripted_models_score_alike(
    model_kinds: ModelKinds, sessions: tuple[Sessions, Sessions], kind: str
) -> None:
    eager, scripted = (
        p.scores_along(first_sessions(sessions))
        for p in (model_kinds.eager(kind), model_kinds.scripted(kind))
    )

    torch.testing.assert_close(eager, scripted, atol=1e-5, rtol=1e-5)


def test_loading_a_bundle_again_gives_the_same_scores(
    any_shop: TrainedShop, sessions: tuple[Sessions, Sessions]
) -> None:
    first, again = open_predictor(any_shop.bundle), open_predictor(any_shop.bundle)

    sample = first_sessions(sessions)
    assert torch.equal(again.scores_along(sample), first.scores_along(sample))
    assert again.window == SMALL.window


def test_the_answer_to_one_session_has_the_scores_of_the_evaluation(
    any_shop: TrainedShop, sessions: tuple[Sessions, Sessions]
) -> None:
    """`recommend` answers from a state and a window, `scores_along` from whole sessions."""
    predictor = open_predictor(any_shop.bundle)
    session = max(first_sessions(sessions), key=len)

    along = predictor.scores_along([session])

    for click in range(len(session) - 1):
        known = [item for item in session[: click + 1].tolist() if item >= 0]
        answer = predictor.recommend(known)
        torch.testing.assert_close(
            along[click, answer.items], torch.tensor(answer.scores), atol=1e-5, rtol=1e-5
        )
