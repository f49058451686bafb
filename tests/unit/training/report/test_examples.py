"""Example visits are chosen by a rule, and show the list of the model and the rank of its cases."""

import numpy as np

from data.sessions import Sessions, reindex, sessionise
from recsys.catalogue.catalogue import Catalogue
from recsys.predictor import Predictor
from recsys.retrieval.exact import RankingQuery
from tests.support.training.builders import log_of
from training.evaluation.evaluate import evaluate
from training.report.examples import (
    LISTED,
    SHOWN_CLICKS,
    VISITS,
    ExampleVisit,
    ShownItem,
    example_visits,
    shown_items,
)

CAMPING = ("tent", "sleeping-bag", "sleeping-mat", "camping-stove", "gas-cartridge", "head-torch")


def sessions_of(*visits: tuple[str, ...]) -> Sessions:
    """Build sessions of Aurora's products, one an hour."""
    rows = [
        (f"s{number}", f"aurora-{name}", 3600 * number)
        for number, visit in enumerate(visits)
        for name in visit
    ]
    return sessionise(log_of(rows), None)


def examples_of(predictor: Predictor, sessions: Sessions) -> list[ExampleVisit]:
    catalogue = predictor.catalogue
    indexed = reindex(sessions, catalogue.item_ids)
    return example_visits(predictor, sessions, evaluate(predictor, indexed, len(catalogue)))


def test_visits_of_four_clicks_are_taken_at_even_places_in_time(predictor: Predictor) -> None:
    """Of eleven long visits, those at places 0, 2, 4, 6, 8 and 10 are shown; short ones never."""
    visits = [(CAMPING[n % 6], CAMPING[(n + 1) % 6], "tent", "kettle") for n in range(11)]
    sessions = sessions_of(CAMPING[:1], CAMPING[:3], *visits)

    examples = examples_of(predictor, sessions)

    assert len(examples) == VISITS
    firsts = [visit.clicks[0].name.removeprefix("Aurora ") for visit in examples]
    assert [name.lower().replace(" ", "-") for name in firsts] == [
        CAMPING[n % 6] for n in range(0, 11, 2)
    ]
    assert examples_of(predictor, sessions_of(CAMPING[:3])) == []


def test_a_visit_shows_the_list_and_the_rank_of_its_last_click(predictor: Predictor) -> None:
    catalogue = predictor.catalogue
    clicked = (*CAMPING[:4], "gas-cartridge", "kettle", "tent", "sleeping-bag")
    known, unknown = examples_of(predictor, sessions_of(clicked, (*CAMPING[:3], "hammock")))
    history = [catalogue.index(f"aurora-{name}") for name in clicked]
    ranking = predictor.recommend(history[:-1], RankingQuery(len(catalogue)))

    assert [item.name for item in known.listed] == [
        catalogue.attributes["name"][item] for item in ranking.items[:LISTED]
    ]
    assert known.rank == list(ranking.items).index(history[-1]) + 1
    assert known.following == ShownItem("Aurora Sleeping bag", "Camping")
    assert (len(known.clicks), known.earlier) == (SHOWN_CLICKS, len(clicked) - 1 - SHOWN_CLICKS)
    assert known.place_in_list == (known.rank - 1 if known.rank <= LISTED else None)
    assert unknown.following == ShownItem("aurora-hammock", "not in the training data")
    assert (unknown.rank, unknown.place_in_list) == (None, None)


def test_items_show_price_and_picture_where_the_picture_is_data() -> None:
    catalogue = Catalogue(
        item_ids=("a", "b"),
        counts=np.array([1, 1]),
        attributes={
            "Title": ["Tent", None],
            "price": ["9.95", None],
            "image": ["data:image/png;base64,AA==", "https://pictures.example/b.png"],
        },
    )

    assert shown_items(catalogue, [0, 1, -1], ["a", "b", "c"]) == [
        ShownItem("Tent", "9.95", "data:image/png;base64,AA=="),
        ShownItem("b"),
        ShownItem("c", "not in the training data"),
    ]
