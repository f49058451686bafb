"""Assortment of the demo shop: products in categories, brands on three price levels, new items.

Six brands sell each of the 200 products. Three of them sell all products from the first day. The
others bring some of their items to the shop on a later day, about ten on each day.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.synthetic import PRODUCTS

DAYS = 28
FIRST_DAY = np.datetime64("2026-01-01")
LEVELS = ("low", "middle", "high")
LATER_SHARE = 0.46  # of the items of the younger brands

BASE_PRICES: dict[str, tuple[int, ...]] = {  # in the order of PRODUCTS
    "Coffee": (299, 89, 14, 22, 18, 24, 19, 35, 9, 25),
    "Tea": (39, 29, 8, 7, 22, 26, 6, 12, 15, 28),
    "Baking": (249, 17, 11, 3, 14, 13, 9, 12, 8, 27),
    "Cooking": (65, 24, 29, 45, 8, 39, 16, 79, 14, 25),
    "Camping": (189, 89, 49, 45, 7, 35, 29, 32, 39, 59),
    "Hiking": (139, 15, 99, 89, 55, 19, 16, 24, 22, 12),
    "Running": (119, 14, 29, 27, 199, 19, 16, 15, 25, 18),
    "Cycling": (899, 69, 35, 39, 25, 22, 7, 9, 11, 95),
    "Swimming": (39, 19, 9, 17, 25, 15, 14, 16, 6, 29),
    "Yoga": (35, 12, 9, 45, 39, 32, 11, 6, 42, 24),
    "Garden": (259, 29, 27, 9, 18, 8, 4, 16, 34, 49),
    "Barbecue": (149, 12, 6, 14, 26, 11, 19, 5, 8, 24),
    "Tools": (119, 19, 7, 6, 17, 9, 18, 35, 10, 8),
    "Painting": (39, 12, 6, 5, 7, 8, 9, 6, 59, 25),
    "Baby": (449, 179, 15, 5, 25, 11, 32, 9, 99, 159),
    "Dogs": (49, 18, 15, 32, 12, 7, 9, 14, 10, 79),
    "Music": (229, 11, 19, 5, 15, 22, 18, 45, 17, 25),
    "Photography": (749, 399, 29, 59, 89, 39, 35, 15, 129, 24),
    "Office": (249, 189, 229, 79, 69, 39, 45, 89, 6, 35),
    "Travel": (129, 25, 22, 19, 24, 14, 12, 16, 9, 18),
}


@dataclass(frozen=True, slots=True)
class Brand:
    """Brand with its price level; `factor` multiplies the base price of a product."""

    name: str
    level: str
    factor: float
    popularity: float
    young: bool = False  # some of its items come on a later day


BRANDS = (
    Brand("Aurora", "middle", 1.0, 0.28),
    Brand("Birch", "low", 0.7, 0.22),
    Brand("Cobalt", "high", 1.5, 0.16),
    Brand("Dune", "low", 0.75, 0.12, young=True),
    Brand("Ember", "middle", 1.05, 0.12, young=True),
    Brand("Fjord", "high", 1.65, 0.10, young=True),
)
CATEGORIES = tuple(PRODUCTS)
PRODUCT_NAMES = tuple(name for names in PRODUCTS.values() for name in names)
PRODUCTS_EACH = len(PRODUCT_NAMES) // len(CATEGORIES)


def days_added(seed: int = 0) -> NDArray[np.int64]:
    """Return the day, from 0, on which an item comes to the shop: (products, brands) int64."""
    rng = np.random.default_rng(seed)
    days = rng.integers(1, DAYS, (len(PRODUCT_NAMES), len(BRANDS)))
    later = rng.random(days.shape) < LATER_SHARE
    young = np.array([brand.young for brand in BRANDS])
    return np.where(later & young, days, 0)


def item_prices() -> NDArray[np.float64]:
    """Return the price of every item, (products, brands) float64: 12.95, never below 0.95."""
    base = np.array([price for of_category in BASE_PRICES.values() for price in of_category])
    factors = np.array([brand.factor for brand in BRANDS])
    product, brand = np.indices((len(base), len(BRANDS)))
    jitter = 1 + ((7 * product + 3 * brand) % 9 - 4) / 100
    whole = np.round(base[:, None] * factors * jitter)
    prices: NDArray[np.float64] = np.maximum(whole, 1) - 0.05
    return prices


def items_table() -> pd.DataFrame:
    """Return one row for each item: item_id, name, category, brand, price, added."""
    product, brand = (flat.ravel() for flat in np.indices((len(PRODUCT_NAMES), len(BRANDS))))
    brands = pd.Series([one.name for one in BRANDS]).take(brand).reset_index(drop=True)
    names = brands + " " + pd.Series(PRODUCT_NAMES).take(product).reset_index(drop=True)
    return pd.DataFrame(
        {
            "item_id": names.str.lower().str.replace(r"[^a-z0-9]+", "-", regex=True),
            "name": names,
            "category": np.array(CATEGORIES)[product // PRODUCTS_EACH],
            "brand": brands,
            "price": item_prices().ravel(),
            "added": (FIRST_DAY + days_added().ravel()).astype(str),
        }
    )
