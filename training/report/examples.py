"""Example visits of a report: the clicks, the list of the model after them, and the next click.

A rule chooses them, so that they are neither the best nor the worst: of the test sessions with at
least four clicks, in the order of time, six at evenly spaced places. The last click of a session is
the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.sessions import Sessions, reindex
from recsys.catalogue.catalogue import Catalogue
from recsys.predictor import Predictor
from recsys.retrieval.exact import RankingQuery
from training.evaluation.evaluate import Evaluation

VISITS = 6
FEWEST_CLICKS = 4  # of an example, the next click among them
SHOWN_CLICKS = 6  # the last ones
LISTED = 6
# attributes that show an item, as in the playground
NAMES = ("name", "title", "product_name", "item_name", "label")
KINDS = ("category", "kind", "type", "genre", "department", "brand")
PRICES = ("price", "unit_price", "sale_price")
PICTURES = ("image", "picture", "image_url", "photo", "thumbnail")


@dataclass(frozen=True, slots=True)
class ShownItem:
    """Item as a reader knows it; the picture is a `data:` URI, empty where there is none."""

    name: str
    about: str = ""
    picture: str = ""


@dataclass(frozen=True, slots=True)
class ExampleVisit:
    """One test session: all clicks but the last, the list after them, and the last click."""

    clicks: Sequence[ShownItem]
    earlier: int  # clicks before those that are shown
    listed: Sequence[ShownItem]
    following: ShownItem
    rank: int | None  # of the last click among all items; None: the model does not know it
    place_in_list: int | None  # of the last click, from 0


def example_visits(
    predictor: Predictor, test: Sessions, evaluation: Evaluation
) -> list[ExampleVisit]:
    """Return the visits that the rule chooses; none where no session is long enough.

    Args:
        predictor: The model.
        test: The sessions that were evaluated.
        evaluation: Ranks of the model on them.
    """
    long = np.flatnonzero(test.lengths >= FEWEST_CLICKS)
    if len(long) == 0:
        return []
    long = long[np.argsort(test.starts_ms[long], kind="stable")]
    places = np.unique(np.linspace(0, len(long) - 1, num=VISITS, dtype=int))
    indexed = reindex(test, predictor.catalogue.item_ids)
    last_cases = np.cumsum(np.maximum(test.lengths - 1, 0)) - 1  # of each session
    return [
        _example(
            predictor,
            indexed[session].tolist(),
            [test.item_ids[code] for code in test[session].tolist()],
            int(evaluation.ranked.rank[last_cases[session]]),
        )
        for session in long[places].tolist()
    ]


def _example(
    predictor: Predictor, items: Sequence[int], item_ids: Sequence[str], rank: int
) -> ExampleVisit:
    """Describe one session, by its item indices, -1 where unknown, and its item ids."""
    catalogue = predictor.catalogue
    window = [item for item in items[:-1][-predictor.window :] if item >= 0]
    listed = list(predictor.recommend(window, RankingQuery(LISTED)).items)
    *clicks, following = shown_items(catalogue, items, item_ids)
    return ExampleVisit(
        clicks=clicks[-SHOWN_CLICKS:],
        earlier=max(len(clicks) - SHOWN_CLICKS, 0),
        listed=shown_items(catalogue, listed, catalogue.item_ids.take(listed)),
        following=following,
        rank=rank if items[-1] >= 0 else None,
        place_in_list=listed.index(items[-1]) if items[-1] in listed else None,
    )


def shown_items(
    catalogue: Catalogue, items: Sequence[int], item_ids: Sequence[str]
) -> list[ShownItem]:
    """Return texts and picture of each item, from the attributes that usually hold them."""
    by_word = {name.lower(): attribute for name, attribute in catalogue.attributes.items()}

    def text(item: int, words: Sequence[str]) -> str:
        found = next((by_word[word] for word in words if word in by_word), None)
        return "" if found is None else found[item] or ""

    def shown(item: int, item_id: str) -> ShownItem:
        if item < 0:
            return ShownItem(item_id, "not in the training data")
        about = " · ".join(filter(None, (text(item, KINDS), text(item, PRICES))))
        picture = text(item, PICTURES)
        is_data = picture.startswith("data:image/")  # the report loads nothing
        return ShownItem(text(item, NAMES) or item_id, about, picture if is_data else "")

    return [shown(item, item_id) for item, item_id in zip(items, item_ids, strict=True)]
