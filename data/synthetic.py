"""Synthetic shop: named products and random visits with known transition probabilities.

The products of a category form a cycle. After an item a visitor clicks the next product of the same
maker (`SUCCESSOR`), the same product of another maker, another product of the category, or a
popular item. A trained model must find the successor; the names show whether a recommendation
makes sense.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PRODUCTS: dict[str, tuple[str, ...]] = {
    "Coffee": (
        "Espresso machine", "Coffee grinder", "Espresso beans", "Tamper", "Milk jug",
        "Espresso cups", "Knock box", "Coffee scale", "Descaler", "Travel mug",
    ),
    "Tea": (
        "Kettle", "Teapot", "Green tea", "Tea strainer", "Tea cups",
        "Tea tray", "Honey", "Tea caddy", "Matcha whisk", "Thermos flask",
    ),
    "Baking": (
        "Stand mixer", "Mixing bowl", "Measuring cups", "Flour", "Baking tin",
        "Rolling pin", "Cookie cutters", "Cooling rack", "Piping bag", "Cake stand",
    ),
    "Cooking": (
        "Chef's knife", "Cutting board", "Knife sharpener", "Frying pan", "Spatula",
        "Saucepan", "Colander", "Casserole", "Oven gloves", "Cookbook",
    ),
    "Camping": (
        "Tent", "Sleeping bag", "Sleeping mat", "Camping stove", "Gas cartridge",
        "Camping cookware", "Head torch", "Water filter", "Camping chair", "Cool box",
    ),
    "Hiking": (
        "Hiking boots", "Hiking socks", "Rain jacket", "Backpack", "Trekking poles",
        "Water bottle", "Map case", "First aid kit", "Sun hat", "Energy bars",
    ),
    "Running": (
        "Running shoes", "Running socks", "Running shorts", "Running shirt", "Sports watch",
        "Running belt", "Energy gel", "Reflective vest", "Foam roller", "Running cap",
    ),
    "Cycling": (
        "Road bike", "Bike helmet", "Bike lights", "Bike lock", "Cycling gloves",
        "Bike pump", "Inner tube", "Chain oil", "Bottle cage", "Bike repair stand",
    ),
    "Swimming": (
        "Swimsuit", "Swim goggles", "Swim cap", "Bath towel", "Swim bag",
        "Kickboard", "Pull buoy", "Flip-flops", "Ear plugs", "Swim fins",
    ),
    "Yoga": (
        "Yoga mat", "Yoga block", "Yoga strap", "Yoga trousers", "Bolster",
        "Meditation cushion", "Mat spray", "Incense", "Singing bowl", "Yoga bag",
    ),
    "Garden": (
        "Lawn mower", "Garden shears", "Spade", "Garden gloves", "Flower pots",
        "Potting soil", "Seeds", "Watering can", "Garden hose", "Compost bin",
    ),
    "Barbecue": (
        "Charcoal grill", "Charcoal", "Fire starter", "Grill tongs", "Meat thermometer",
        "Grill brush", "Apron", "Barbecue sauce", "Skewers", "Grill cover",
    ),
    "Tools": (
        "Cordless drill", "Drill bits", "Screws", "Wall plugs", "Spirit level",
        "Tape measure", "Hammer", "Toolbox", "Work gloves", "Safety glasses",
    ),
    "Painting": (
        "Wall paint", "Paint roller", "Paint tray", "Masking tape", "Dust sheet",
        "Paint brush", "Filler", "Sandpaper", "Step ladder", "Overalls",
    ),
    "Baby": (
        "Pram", "Car seat", "Nappies", "Baby wipes", "Changing mat",
        "Baby bottle", "Bottle warmer", "Bibs", "Baby monitor", "Cot",
    ),
    "Dogs": (
        "Dog bed", "Dog lead", "Dog collar", "Dog food", "Food bowl",
        "Dog treats", "Chew toy", "Dog brush", "Dog shampoo", "Dog crate",
    ),
    "Music": (
        "Acoustic guitar", "Guitar strings", "Guitar tuner", "Plectrums", "Capo",
        "Guitar stand", "Guitar strap", "Guitar bag", "Songbook", "Metronome",
    ),
    "Photography": (
        "Camera", "Camera lens", "Memory card", "Camera bag", "Tripod",
        "Spare battery", "Lens filter", "Cleaning kit", "Flash", "Photo album",
    ),
    "Office": (
        "Desk", "Office chair", "Monitor", "Monitor arm", "Keyboard",
        "Mouse", "Desk lamp", "Headset", "Notebook", "Footrest",
    ),
    "Travel": (
        "Suitcase", "Packing cubes", "Toiletry bag", "Travel adapter", "Neck pillow",
        "Luggage scale", "Luggage lock", "Passport holder", "Eye mask", "Travel guide",
    ),
}  # fmt: skip

MAKERS = (
    "Aurora", "Birch", "Cobalt", "Dune", "Ember", "Fjord", "Grove", "Harbour", "Iris", "Juniper",
    "Kestrel", "Lumen", "Maple", "Nimbus", "Orchard", "Pebble", "Quartz", "Raven", "Sable", "Tidal",
)  # fmt: skip


SUCCESSOR, COMPARE, BROWSE, WANDER = 0.70, 0.12, 0.12, 0.06  # probabilities of the next click
MEAN_EXTRA_CLICKS = 4.0  # beyond the two clicks of every session
SECONDS_BETWEEN_CLICKS = 40
SECONDS_BETWEEN_SESSIONS = 45
FIRST_SECOND = 1_767_225_600  # 2026-01-01


@dataclass(frozen=True, slots=True)
class Shop:
    """Shop with `makers` variants of every product, indexed by category, product and maker."""

    makers: int = 3

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(PRODUCTS)

    @property
    def products_each(self) -> int:
        return len(next(iter(PRODUCTS.values())))

    def __len__(self) -> int:
        return len(self.categories) * self.products_each * self.makers

    def successor(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the next product of the same category and maker; the first follows the last."""
        category, product, maker = self._parts(items)
        return self._item(category, (product + 1) % self.products_each, maker)

    def table(self) -> pd.DataFrame:
        """Return one row for each item: item_id, name, category, brand."""
        category, product, maker = self._parts(np.arange(len(self)))
        names = [name for products in PRODUCTS.values() for name in products]
        product_names = np.array(names)[category * self.products_each + product]
        brands = np.array([_maker(number) for number in range(self.makers)])[maker]
        table = pd.DataFrame({"product": product_names, "brand": brands})
        slug = (table["brand"] + " " + table["product"]).str.lower()
        return pd.DataFrame(
            {
                "item_id": slug.str.replace(r"[^a-z0-9]+", "-", regex=True),
                "name": table["brand"] + " " + table["product"],
                "category": np.array(self.categories)[category],
                "brand": table["brand"],
            }
        )

    def _parts(
        self, items: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        kind, maker = np.divmod(items, self.makers)
        category, product = np.divmod(kind, self.products_each)
        return category, product, maker

    def _item(
        self, category: NDArray[np.int64], product: NDArray[np.int64], maker: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        item: NDArray[np.int64] = (category * self.products_each + product) * self.makers + maker
        return item

    def walk(self, sessions: int, seed: int) -> pd.DataFrame:
        """Return the clicks of random visits: session_id, item, timestamp (epoch seconds)."""
        rng = np.random.default_rng(seed)
        lengths = 2 + rng.geometric(1 / (1 + MEAN_EXTRA_CLICKS), sessions) - 1
        item = self._draw_popular(rng, sessions)
        walking = np.arange(sessions)
        rows = []
        for click in range(int(lengths.max())):
            rows.append(pd.DataFrame({"session": walking, "click": click, "item": item}))
            stays = lengths[walking] > click + 1
            walking, item = walking[stays], self._next(rng, item[stays])
        clicks = pd.concat(rows).sort_values(["session", "click"], kind="stable")
        start = FIRST_SECOND + clicks["session"] * SECONDS_BETWEEN_SESSIONS
        return pd.DataFrame(
            {
                "session_id": "s" + clicks["session"].astype(str),
                "item": clicks["item"],
                "timestamp": start + clicks["click"] * SECONDS_BETWEEN_CLICKS,
            }
        ).reset_index(drop=True)

    def _next(self, rng: np.random.Generator, item: NDArray[np.int64]) -> NDArray[np.int64]:
        category, product, _ = self._parts(item)
        other_maker = self._draw_makers(rng, len(item))
        other_product = rng.integers(0, self.products_each, len(item))
        choices = np.stack(
            [
                self.successor(item),
                self._item(category, product, other_maker),
                self._item(category, other_product, other_maker),
                self._draw_popular(rng, len(item)),
            ]
        )
        kind = rng.choice(4, len(item), p=[SUCCESSOR, COMPARE, BROWSE, WANDER])
        return choices[kind, np.arange(len(item))]

    def _draw_popular(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Draw items whose category, product and maker each follow a power law."""
        category = _power_law(rng, len(self.categories), 0.5, count)
        product = _power_law(rng, self.products_each, 0.7, count)
        return self._item(category, product, self._draw_makers(rng, count))

    def _draw_makers(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        return _power_law(rng, self.makers, 0.8, count)


def write_shop(folder: Path, *, makers: int = 3, sessions: int = 15_000, seed: int = 1) -> Shop:
    """Write `clicks.csv` and `items.csv` for `recsys train`."""
    shop = Shop(makers)
    table = shop.table()
    clicks = shop.walk(sessions, seed)
    clicks["item_id"] = table["item_id"].to_numpy()[clicks["item"]]
    clicks[["session_id", "item_id", "timestamp"]].to_csv(folder / "clicks.csv", index=False)
    table.to_csv(folder / "items.csv", index=False)
    return shop


def _maker(number: int) -> str:
    """Return Aurora, Birch, …, then Aurora 2, Birch 2, and so on."""
    again, which = divmod(number, len(MAKERS))
    return MAKERS[which] if again == 0 else f"{MAKERS[which]} {again + 1}"


def _power_law(
    rng: np.random.Generator, kinds: int, exponent: float, count: int
) -> NDArray[np.int64]:
    """Draw `count` numbers from 0 … kinds-1 with P(rank r) ∝ r^-exponent."""
    weights = np.arange(1, kinds + 1, dtype=np.float64) ** -exponent
    cumulative = np.cumsum(weights) / weights.sum()
    drawn = np.searchsorted(cumulative, rng.random(count), side="right")
    return np.minimum(drawn, kinds - 1).astype(np.int64)
