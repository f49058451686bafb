"""Visits to the demo shop. Each visitor has an intent that lasts: a task and a taste.

A task is a list of products, a taste is a brand or a price level. A click goes on with the task, to
one of the next products of the list; or it compares another brand of the same product, looks at a
product of the same category, or at a popular one, and the task goes on later where it was left.
So the whole visit counts: the last click says neither the task nor the taste for certain.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.shop.assortment import (
    BRANDS,
    CATEGORIES,
    DAYS,
    FIRST_DAY,
    LEVELS,
    PRODUCT_NAMES,
    PRODUCTS_EACH,
    days_added,
)
from data.shop.tasks import TASKS

GO_ON, COMPARE, BROWSE, WANDER = 0.66, 0.14, 0.10, 0.10  # probabilities of the next click
STEPS = (0.46, 0.24, 0.14, 0.09, 0.07)  # of going on to the 1st, 2nd, … next product of the list
LOYALTY = 0.85  # share of a taste's clicks on its brand, or on the brands of its price level
LOYAL_TO_BRAND = 0.6  # share of visitors whose taste is a brand
NEW_DAYS, NEW_ATTENTION = 4, 2.0  # an item gets so many times the clicks on its first days
MEAN_EXTRA_CLICKS = 4.5  # beyond the two clicks of every visit
SECONDS_BETWEEN_CLICKS = 40
SECONDS_A_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Intents:
    """Intent of each visitor of n: (n,) int64 task, taste, and day of the visit from 0."""

    task: NDArray[np.int64]
    taste: NDArray[np.int64]
    day: NDArray[np.int64]

    def of(self, chosen: NDArray[np.bool_]) -> "Intents":
        """Return the intents of some visitors."""
        return Intents(self.task[chosen], self.taste[chosen], self.day[chosen])


class VisitModel:
    """Probabilities of the clicks of a visit.

    T tasks, A tastes, P products, B brands; an item is product * B + brand.
    """

    def __init__(self) -> None:
        number = {name: product for product, name in enumerate(PRODUCT_NAMES)}
        self.lists = [np.array([number[name] for name in names]) for names in TASKS.values()]
        self.place = np.full((len(self.lists), len(PRODUCT_NAMES)), -1)  # on the list of a task
        for task, products in enumerate(self.lists):
            self.place[task, products] = np.arange(len(products))
        self.task_shares = _power_law(len(self.lists), 0.4)
        self.taste_shares, self.taste_brands = _tastes()
        self.popular_brands = np.array([brand.popularity for brand in BRANDS])
        self.popular_products = np.outer(
            _power_law(len(CATEGORIES), 0.5), _power_law(PRODUCTS_EACH, 0.7)
        ).ravel()
        self._added = days_added()

    def start_shares(self, task: int) -> NDArray[np.float64]:
        """Return (P,) float64, where a visitor with this task begins."""
        shares = np.zeros(len(PRODUCT_NAMES))
        shares[self.lists[task]] = _power_law(len(self.lists[task]), 0.7)
        return shares

    def attention(
        self, days: NDArray[np.int64], products: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return how much each brand's item is looked at on a day.

        Args:
            days: (n,) int64 days from 0.
            products: (n,) int64 products.

        Returns:
            (n, B) float64; 0 where the item is not in the shop yet.
        """
        added = self._added[products]
        age = days[:, None] - added
        is_new = (added > 0) & (age < NEW_DAYS)
        return np.where(age < 0, 0.0, np.where(is_new, NEW_ATTENTION, 1.0))

    def walk(self, visits: int, seed: int) -> pd.DataFrame:
        """Return the clicks of random visits: session_id, item, timestamp (epoch seconds)."""
        rng = np.random.default_rng(seed)
        starts = np.arange(visits) * (DAYS * SECONDS_A_DAY) // visits
        intents = Intents(
            rng.choice(len(self.task_shares), visits, p=self.task_shares),
            rng.choice(len(self.taste_shares), visits, p=self.taste_shares),
            starts // SECONDS_A_DAY,
        )
        lengths = 2 + rng.geometric(1 / (1 + MEAN_EXTRA_CLICKS), visits) - 1
        rows, walking = [], np.arange(visits)
        starting = np.array([self.start_shares(task) for task in range(len(self.lists))])
        product = _draw(rng, starting[intents.task])
        place = self.place[intents.task, product]
        brand = self._brand(rng, intents, product)
        for click in range(int(lengths.max())):
            item = product * len(BRANDS) + brand
            rows.append(pd.DataFrame({"visit": walking, "click": click, "item": item}))
            stays = lengths[walking] > click + 1
            walking, intents = walking[stays], intents.of(stays)
            product, brand = self._next(rng, intents, product[stays], brand[stays], place[stays])
            found = self.place[intents.task, product]
            place = np.where(found >= 0, found, place[stays])
        clicks = pd.concat(rows).sort_values(["visit", "click"], kind="stable")
        first_second = int(FIRST_DAY.astype("datetime64[s]").astype(np.int64))
        seconds = starts[clicks["visit"]] + clicks["click"] * SECONDS_BETWEEN_CLICKS
        return pd.DataFrame(
            {
                "session_id": "s" + clicks["visit"].astype(str),
                "item": clicks["item"],
                "timestamp": first_second + seconds,
            }
        ).reset_index(drop=True)

    def _next(
        self,
        rng: np.random.Generator,
        intents: Intents,
        product: NDArray[np.int64],
        brand: NDArray[np.int64],
        place: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        count = len(product)
        kind = rng.choice(4, count, p=[GO_ON, COMPARE, BROWSE, WANDER])
        length = np.array([len(products) for products in self.lists])[intents.task]
        ahead = (place + 1 + rng.choice(len(STEPS), count, p=STEPS)) % length
        by_place = np.zeros((len(self.lists), max(map(len, self.lists))), dtype=np.int64)
        for task, products in enumerate(self.lists):
            by_place[task, : len(products)] = products
        first_of_category = product // PRODUCTS_EACH * PRODUCTS_EACH
        products = np.stack(
            [
                by_place[intents.task, ahead],
                product,
                first_of_category + rng.integers(0, PRODUCTS_EACH, count),
                rng.choice(len(PRODUCT_NAMES), count, p=self.popular_products),
            ]
        )[kind, np.arange(count)]
        weights = self.taste_brands[intents.taste].copy()
        weights[kind == 3] = self.popular_brands
        compared = np.flatnonzero(kind == 1)
        weights[compared, brand[compared]] = 0
        return products, _draw(rng, weights * self.attention(intents.day, products))

    def _brand(
        self, rng: np.random.Generator, intents: Intents, product: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        weights = self.taste_brands[intents.taste]
        return _draw(rng, weights * self.attention(intents.day, product))


def _tastes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the share of each taste, (A,), and the shares of the brands by it, (A, B)."""
    popularity = np.array([brand.popularity for brand in BRANDS])
    chosen = [np.arange(len(BRANDS)) == brand for brand in range(len(BRANDS))]
    chosen += [np.array([brand.level == level for brand in BRANDS]) for level in LEVELS]
    brands = np.array(
        [
            LOYALTY * popularity * own / popularity[own].sum()
            + (1 - LOYALTY) * popularity * ~own / popularity[~own].sum()
            for own in chosen
        ]
    )
    of_levels = np.array([popularity[own].sum() for own in chosen[len(BRANDS) :]])
    shares = np.concatenate([LOYAL_TO_BRAND * popularity, (1 - LOYAL_TO_BRAND) * of_levels])
    return shares, brands


def _power_law(kinds: int, exponent: float) -> NDArray[np.float64]:
    """Return (kinds,) float64 with P(rank r) ∝ r^-exponent."""
    weights = np.arange(1, kinds + 1, dtype=np.float64) ** -exponent
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _draw(rng: np.random.Generator, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Draw one column of each row of (n, kinds) weights."""
    ends = np.cumsum(weights, axis=1)
    drawn = rng.random(len(weights)) * ends[:, -1]
    columns: NDArray[np.int64] = (ends[:, :-1] <= drawn[:, None]).sum(axis=1)
    return columns
