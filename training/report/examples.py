"""Example visits of a report: the clicks, the list of the model after them, and the next click.

A rule chooses them, so that they are neither the best nor the worst: of the test sessions with at
least four clicks, in the order of time, six at evenly spaced places. The last click is the next one.
"""

from collections.abc import Iterable, Sequence
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

    @property
    def place_in_list(self) -> int | None:
        """Return the index of the last click in the list that is shown."""
        found = self.rank is not None and self.rank <= len(self.listed)
        return self.listed.index(self.following) if found and self.following in self.listed else None


def example_visits(
    predictor: Predictor, test: Sessions, evaluation: Evaluation
) -> list[ExampleVisit]:
    """Return the visits that the rule chooses; none where no session is long enough.

    Args:
        predictor: The model.
        test: The sessions that were evaluated.
        evaluation: Ranks of the model on them.
    """
    catalogue, ranked = predictor.catalogue, evaluation.ranked
    show = _Display(catalogue)
    indexed = reindex(test, catalogue.item_ids)
    with_case = np.cumsum(indexed.lengths >= 2) - 1  # number of a session among the ranked ones
    long = np.flatnonzero(indexed.lengths >= FEWEST_CLICKS)
    long = long[np.argsort(test.starts_ms[long], kind="stable")]
    places = np.unique(np.linspace(0, len(long) - 1, num=VISITS, dtype=int)) if len(long) else []
    examples = []
    for session in long[places].tolist():
        items = indexed[session].tolist()
        ids = [test.item_ids[code] for code in test[session].tolist()]
        window = [item for item in items[:-1][-predictor.window :] if item >= 0]
        ranking = predictor.recommend(window, RankingQuery(LISTED))
        of_session = np.flatnonzero(ranked.session == with_case[session])
        shown = [show.item(item, item_id) for item, item_id in zip(items, ids, strict=True)]
        examples.append(
            ExampleVisit(
                clicks=shown[:-1][-SHOWN_CLICKS:],
                earlier=max(len(items) - 1 - SHOWN_CLICKS, 0),
                listed=[show.item(item, catalogue.item_ids[item]) for item in ranking.items],
                following=shown[-1],
                rank=int(ranked.rank[of_session[-1]]) if items[-1] >= 0 else None,
            )
        )
    return examples


class _Display:
    """Texts and pictures of items, by the attributes that usually hold them."""

    def __init__(self, catalogue: Catalogue) -> None:
        attributes = catalogue.attributes
        self._name, self._kind, self._price, self._picture = (
            attributes[name] if (name := _among(attributes, words)) is not None else None
            for words in (NAMES, KINDS, PRICES, PICTURES)
        )

    def item(self, index: int, item_id: str) -> ShownItem:
        if index < 0:
            return ShownItem(item_id, "not in the training data")
        name, kind, price, picture = (
            (attribute[index] or "") if attribute is not None else ""
            for attribute in (self._name, self._kind, self._price, self._picture)
        )
        about = " · ".join(text for text in (kind, price) if text)
        is_data = picture.startswith("data:image/")  # the report loads nothing
        return ShownItem(name or item_id, about, picture if is_data else "")


def _among(names: Iterable[str], words: Sequence[str]) -> str | None:
    """Return the first of the words that is a name, in any case."""
    by_word = {name.lower(): name for name in names}
    return next((by_word[word] for word in words if word in by_word), None)
