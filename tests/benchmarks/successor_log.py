"""Write a click log of many items, in which most clicks follow from the clicks before them.

    python tests/benchmarks/successor_log.py clicks.parquet --items 2300000 --clicks 10000000
    recsys train --clicks clicks.parquet --split-column split --recipe default --out runs/2m

Items belong to categories of `CATEGORY` items; their popularity falls by a power law. Each item has
four successors in its category. A click follows the last item, or the item before it, or is an
item of the same category by popularity, or any item by popularity. The last sessions are marked
`valid` and `test`. Items that no click chose are not in the log. `--attributes items.parquet` gives
each item a department, of neighbouring categories, a brand and a price, for `recsys train --items`.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray

CATEGORY = 100  # items
SUCCESSOR_SHARES = (0.4, 0.3, 0.2, 0.1)  # of the clicks that follow an item
KIND_SHARES = (0.55, 0.1, 0.15, 0.2)  # of the last item, of the one before, same category, any
EXPONENT = 0.8  # P(rank r) ∝ r^-0.8, as in tests/benchmarks/scaling.py
SHORTEST, MEAN_EXTRA_CLICKS, LONGEST = 2, 3.2, 30  # clicks of a session
BEGIN, SECONDS_BETWEEN_SESSIONS = 1_600_000_000, 60
DEPARTMENTS, BRANDS, PRICES = 20, 2_000, 100_000  # prices in hundredths

app = typer.Typer(add_completion=False)


class SuccessorShop:
    """Popularity, categories and successors of the items."""

    def __init__(self, items: int, random: np.random.Generator) -> None:
        self._items, self._random = items - items % CATEGORY, random
        weight = (1.0 + random.permutation(self._items)) ** -EXPONENT
        self._cumulative = np.concatenate([[0.0], np.cumsum(weight)])
        within = random.integers(0, CATEGORY, (self._items, len(SUCCESSOR_SHARES)), dtype=np.int32)
        first = np.arange(self._items, dtype=np.int32) // CATEGORY * CATEGORY
        self._successors = first[:, None] + within

    def any_items(self, count: int) -> NDArray[np.int64]:
        """Return items by popularity."""
        return self._by_popularity(np.zeros(count, int), np.full(count, self._items))

    def after(self, last: NDArray[np.int64], before: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the next click of sessions, given their last click and the one before it."""
        kind = self._random.choice(len(KIND_SHARES), len(last), p=KIND_SHARES)
        start = last // CATEGORY * CATEGORY
        return np.choose(
            kind,
            [
                self._successor(last),
                self._successor(before),
                self._by_popularity(start, start + CATEGORY),
                self.any_items(len(last)),
            ],
        )

    def _successor(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        place = self._random.choice(len(SUCCESSOR_SHARES), len(items), p=SUCCESSOR_SHARES)
        return self._successors[items, place].astype(np.int64)

    def _by_popularity(self, start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        low, high = self._cumulative[start], self._cumulative[end]
        sought = low + self._random.random(len(start)) * (high - low)
        items: NDArray[np.int64] = np.searchsorted(self._cumulative, sought, "right") - 1
        return items.clip(start, end - 1)


@app.command()
def write(
    out: Annotated[Path, typer.Argument(help="Parquet file to write.")],
    clicks: Annotated[int, typer.Option(help="About so many clicks.")] = 1_000_000,
    items: Annotated[int, typer.Option(help="Items that a click may choose.")] = 100_000,
    held_out: Annotated[int, typer.Option(help="Sessions of each held-out part.")] = 1_000,
    attributes: Annotated[
        Path | None, typer.Option(help="Parquet file of the items to write, too.")
    ] = None,
    seed: int = 1,
) -> None:
    """Write the log."""
    random = np.random.default_rng(seed)
    shop = SuccessorShop(items, random)
    sessions = round(clicks / (SHORTEST + MEAN_EXTRA_CLICKS))
    extra = random.geometric(1 / (1 + MEAN_EXTRA_CLICKS), sessions) - 1
    length = np.minimum(SHORTEST + extra, LONGEST)
    last = before = shop.any_items(sessions)
    session, clicked, at = [np.arange(sessions)], [last], [np.zeros(sessions, int)]
    alive = np.arange(sessions)
    for click in range(1, LONGEST):
        going = length[alive] > click
        alive, last, before = alive[going], last[going], before[going]
        last, before = shop.after(last, before), last
        session.append(alive)
        clicked.append(last)
        at.append(np.full(len(alive), click))
    order = np.lexsort([np.concatenate(at), np.concatenate(session)])
    visit, item = np.concatenate(session)[order], np.concatenate(clicked)[order]
    part = np.searchsorted([sessions - 2 * held_out, sessions - held_out], visit, "right")
    table = {
        "session_id": visit,
        "item_id": item,
        "timestamp": BEGIN + visit * SECONDS_BETWEEN_SESSIONS + np.concatenate(at)[order],
        "split": pa.DictionaryArray.from_arrays(
            part.astype(np.int8), pa.array(["train", "valid", "test"])
        ),
    }
    pq.write_table(pa.table(table), out)
    if attributes is not None:
        write_attributes(attributes, items, random)
    typer.echo(f"{len(item):,} clicks, {sessions:,} sessions, {len(np.unique(item)):,} items")


def write_attributes(out: Path, items: int, random: np.random.Generator) -> None:
    """Write the department, brand and price of each item."""
    numbers = np.arange(items)
    table = {
        "item_id": numbers,
        "department": [f"department {number}" for number in numbers * DEPARTMENTS // items],
        "brand": [f"brand {number}" for number in random.integers(0, BRANDS, items)],
        "price": random.integers(0, PRICES, items) / 100,
    }
    pq.write_table(pa.table(table), out)


if __name__ == "__main__":
    app()
