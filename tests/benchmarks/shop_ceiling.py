"""Measure the best possible lists for the demo shop, by the probabilities that made its visits.

    recsys shop --out shop
    python tests/benchmarks/shop_ceiling.py --clicks shop/clicks.csv

The ideal recommender knows all probabilities of `data/shop/visits.py`, but not the intent of a
visitor: it infers task and taste from the clicks by Bayes' rule, and ranks all items by the
probability of the next click. No recommender has a higher expected Recall@20 or MRR@20.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from data.click_options import ClickOptions
from data.prepare import prepare
from data.sessions import Sessions, reindex
from data.shop.assortment import BRANDS, FIRST_DAY, PRODUCT_NAMES, PRODUCTS_EACH, items_table
from data.shop.visits import BROWSE, COMPARE, GO_ON, STEPS, WANDER, VisitModel
from recsys.model.ranking import target_ranks
from training.evaluation.metrics import metrics_at

MS_PER_DAY = 86_400_000


class IdealRecommender:
    """Probabilities of the next click, given the clicks before it and the day of the visit."""

    def __init__(self, model: VisitModel) -> None:
        self._model = model
        self._starts = np.array([model.start_shares(task) for task in range(len(model.lists))])
        self._after = np.zeros((*self._model.place.shape, len(PRODUCT_NAMES)))
        for task, products in enumerate(model.lists):
            for step, share in enumerate(STEPS, start=1):
                self._after[task, products, np.roll(products, -step)] += share
        self._brands_on = cache(self._brands)

    def shares_along(self, items: NDArray[np.int64], day: int) -> Iterator[NDArray[np.float64]]:
        """Yield the probability of every item, (items,), after each click but the last.

        Args:
            items: (clicks,) int64 items of one visit.
            day: Its day from 0.
        """
        model, (tastes, popular) = self._model, self._brands_on(day)
        products, brands = np.divmod(items, len(BRANDS))
        of_task = model.task_shares * self._starts[:, products[0]]
        belief = np.outer(of_task, model.taste_shares * tastes[:, products[0], brands[0]])
        last_listed = np.full(len(model.lists), products[0])  # last click on the list of each task
        for click in range(1, len(items)):
            belief /= belief.sum()
            product, brand = products[click - 1], brands[click - 1]
            after = self._after[np.arange(len(last_listed)), last_listed]  # (tasks, P)
            category = np.arange(len(PRODUCT_NAMES)) // PRODUCTS_EACH == product // PRODUCTS_EACH
            by_task = GO_ON * after + BROWSE * category / PRODUCTS_EACH
            other = tastes[:, product] * (np.arange(len(BRANDS)) != brand)
            other = COMPARE * other / other.sum(axis=1, keepdims=True)  # (tastes, B)
            shares = np.einsum("ap,apb->pb", belief.T @ by_task, tastes) + WANDER * popular
            shares[product] += belief.sum(axis=0) @ other
            yield shares.ravel()
            clicked, of_brand = products[click], brands[click]
            likely = np.outer(by_task[:, clicked], tastes[:, clicked, of_brand])
            likely += WANDER * popular[clicked, of_brand]
            if clicked == product:
                likely += other[:, of_brand]
            belief *= likely
            last_listed[model.place[:, clicked] >= 0] = clicked

    def _brands(self, day: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the shares of brands on a day by taste, (tastes, P, B), and of popular items."""
        model = self._model
        products = np.arange(len(PRODUCT_NAMES))
        attention = model.attention(np.full(len(products), day), products)
        tastes = model.taste_brands[:, None] * attention
        popular = model.popular_brands * attention
        return (
            tastes / tastes.sum(axis=2, keepdims=True),
            model.popular_products[:, None] * popular / popular.sum(axis=1, keepdims=True),
        )


def ideal_metrics(test: Sessions) -> dict[str, float]:
    """Rank every next click; return recall@K, MRR@K and NDCG@K."""
    ideal, ranks = IdealRecommender(VisitModel()), []
    first_day = FIRST_DAY.astype("datetime64[ms]").astype(np.int64)
    days = (test.starts_ms - first_day) // MS_PER_DAY
    for session, day in enumerate(days.tolist()):
        items = test[session].astype(np.int64)
        shares = torch.from_numpy(np.array(list(ideal.shares_along(items, day))))
        ranks.append(target_ranks(shares, torch.from_numpy(items[1:]))[0])
    return metrics_at(torch.cat(ranks))


def measure(
    clicks: Annotated[Path, typer.Option(help="clicks.csv of `recsys shop`.")],
    test_fraction: Annotated[float, typer.Option(help="As for `recsys train`.")] = 0.1,
) -> None:
    """Print the metrics of the ideal recommender on the test part."""
    test = prepare(ClickOptions(clicks, test_fraction=test_fraction)).test
    metrics = ideal_metrics(reindex(test, list(items_table()["item_id"])))
    for name, value in metrics.items():
        typer.echo(f"{name:10s} {value:.4f}")


if __name__ == "__main__":
    typer.run(measure)
