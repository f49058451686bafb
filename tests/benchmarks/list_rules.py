"""Measure the CPU time of one list by the rules of its request, and its recall against exact lists.

    python tests/benchmarks/memory.py bundle --items 1000000 --brands 2000 --out runs/random-1m
    python tests/benchmarks/list_rules.py --bundle runs/random-1m

One thread, batches of one, after two clicks on items by popularity. Filters and boosts have the
values of random items, by category, or department, and by brand; a bundle without a price gets one
here. The first list of a row may make postings or codes. `exact` is the time of a scan of all items
in float32. Some rows allow 90 % of the items, at random, as stock does.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from recsys.allowed_items import AllowedItems
from recsys.bundle.golden import open_predictor
from recsys.catalogue.attributes import Range
from recsys.catalogue.catalogue import Catalogue
from recsys.predictor import Predictor, Ranking, SessionState
from recsys.retrieval.exact import RankingQuery
from service.recommendation.list_rules import ListQuery, ranking_query
from tests.support.service.processes import resident

POPULAR = 100  # pinned items are among so many
STOCKED = 0.9  # of the items
FIRST = 5  # lists that do not count
Values = Mapping[str, list[str]]  # of random items

app = typer.Typer(add_completion=False)


def rules_of(main: str) -> dict[str, Callable[[Values, list[str]], ListQuery]]:
    """Return name of a row → rules of a list, from values of random items and popular items."""

    def both(v: Values) -> dict[str, dict[str, float]]:
        return {main: {v[main][0]: 0.5}, "brand": {v["brand"][0]: 0.1}}

    half, few = Range(lt=500), Range(gte=100, lt=110)
    return {
        "none": lambda v, p: ListQuery(),
        "50 items": lambda v, p: ListQuery(k=50),
        "100 items": lambda v, p: ListQuery(k=100),
        f"filter by {main}": lambda v, p: ListQuery(filter={main: v[main][:1]}),
        f"filter by {main}, 100 items": lambda v, p: ListQuery(k=100, filter={main: v[main][:1]}),
        f"filter by 3 values of {main}": lambda v, p: ListQuery(filter={main: v[main][:3]}),
        "filter by brand": lambda v, p: ListQuery(filter={"brand": v["brand"][:1]}),
        "filter by brand, 100 items": lambda v, p: ListQuery(
            k=100, filter={"brand": v["brand"][:1]}
        ),
        "filter by price, half": lambda v, p: ListQuery(filter={"price": half}),
        "filter by price, 1 %": lambda v, p: ListQuery(filter={"price": few}),
        f"filter by {main} and price": lambda v, p: ListQuery(
            filter={main: v[main][:1], "price": half}
        ),
        "boost": lambda v, p: ListQuery(boost=both(v)),
        f"max_per, 3 of one {main}": lambda v, p: ListQuery(max_per={main: 3}),
        "max_per, 1 of one brand": lambda v, p: ListQuery(max_per={"brand": 1}),
        "pin, 3 items": lambda v, p: ListQuery(pin=p[:3]),
        "all of these": lambda v, p: ListQuery(
            filter={"price": half}, boost=both(v), max_per={main: 3, "brand": 1}, pin=p[:3]
        ),
        "100 items, all but the filter": lambda v, p: ListQuery(
            k=100, boost=both(v), max_per={main: 10, "brand": 1}, pin=p[:3]
        ),
    }


@app.command()
def measure(
    bundle: Annotated[Path, typer.Option(help="Bundle folder.")],
    calls: Annotated[int, typer.Option(help="Lists for each row; the median counts.")] = 100,
    exact: Annotated[int, typer.Option(help="Exact lists for each row; 0 for none.")] = 10,
) -> None:
    """Print a table."""
    torch.set_num_threads(1)
    predictor = open_predictor(bundle)
    catalogue = priced(predictor.catalogue)
    main = next(name for name in ("category", "department") if name in catalogue.attributes)
    popular = catalogue.item_ids.take(catalogue.by_popularity[:POPULAR].tolist())
    memory = grown(predictor, catalogue, [main, "brand"])
    draw = np.random.default_rng(1)
    stock = AllowedItems.of_mask(draw.random(len(catalogue)) < STOCKED)
    table = Table("rules", "first, ms", "ms", "p90", "exact, ms", "recall")
    table.title = f"{len(catalogue):,} items"
    for name, rules in rules_of(main).items():
        for allowed in (None, stock) if name in ("none", f"filter by {main}") else (None,):
            queries = []
            for _ in range(calls):
                some = draw.integers(0, len(catalogue), 3).tolist()
                values = {
                    each: [catalogue.attributes[each][i] or "" for i in some]
                    for each in (main, "brand")
                }
                query = ranking_query(rules(values, popular), catalogue, ())
                queries.append(restricted(query, allowed))
            label = name if allowed is None else f"{name}, {STOCKED:.0%} in stock"
            table.add_row(label, *cells(predictor, catalogue, queries, exact))
    console = Console(width=120)
    for made, megabytes in memory.items():
        console.print(f"{made}: {megabytes:,.0f} MB")
    console.print(table)


def grown(predictor: Predictor, catalogue: Catalogue, names: Sequence[str]) -> dict[str, float]:
    """Return the private memory of what is made once, MB."""
    wide = catalogue.allowed({}).mask.copy()
    wide[0] = False
    narrow = RankingQuery(100, allowed=AllowedItems.of_mask(wide))
    calls: dict[str, Callable[[], object]] = {
        f"postings of {' and '.join(names)}": lambda: [
            catalogue.allowed({name: [""]}) for name in names
        ],
        "postings of price": lambda: catalogue.allowed({"price": Range(lt=0)}),
        "codes of 8 bits, and a scan": lambda: predictor.recommend([0], narrow),
    }
    memory = {}
    for name, call in calls.items():
        before = resident(os.getpid()).written
        call()
        memory[name] = resident(os.getpid()).written - before
    return memory


def priced(catalogue: Catalogue) -> Catalogue:
    """Return the catalogue, with a price for each item if it has none, 0 to 999.99."""
    if "price" in catalogue.attributes:
        return catalogue
    prices = np.random.default_rng(2).integers(0, 100_000, len(catalogue)) / 100
    attributes = {**catalogue.attributes, "price": [f"{price:g}" for price in prices]}
    return Catalogue(catalogue.item_ids, catalogue.counts, attributes)


def restricted(query: RankingQuery, stock: AllowedItems | None) -> RankingQuery:
    if stock is None:
        return query
    return replace(query, allowed=stock if query.allowed is None else query.allowed & stock)


def cells(
    predictor: Predictor, catalogue: Catalogue, queries: list[RankingQuery], exact: int
) -> list[str]:
    """Return milliseconds of CPU and recall."""
    chance = catalogue.counts / catalogue.counts.sum()
    clicks = np.random.default_rng(1).choice(len(catalogue), (len(queries), 2), p=chance).tolist()
    spent, lists = zip(
        *(timed(predictor, *each) for each in zip(clicks, queries, strict=True)), strict=True
    )
    again = [timed(predictor, *each)[0] for each in zip(clicks, queries, strict=True)][FIRST:]
    row = [f"{spent[0] * 1e3:.1f}", f"{median(again) * 1e3:.2f}"]
    row.append(f"{np.quantile(again, 0.9) * 1e3:.2f}")
    if not exact:
        return [*row, "", ""]
    alone = predictor.with_exact_retrieval()
    took, wanted = zip(*map(timed, [alone] * exact, clicks, queries), strict=False)
    shared = sum(len(set(a.items) & set(b.items)) for a, b in zip(wanted, lists, strict=False))
    total = sum(len(each.items) for each in wanted)
    return [*row, f"{median(took) * 1e3:.1f}", f"{shared / total:.4f}"]


def timed(predictor: Predictor, clicks: list[int], query: RankingQuery) -> tuple[float, Ranking]:
    """Return CPU seconds of one list, and the list."""
    began = time.process_time()
    state = predictor.advance([SessionState(clicks)])
    (ranking,) = predictor.rank(state, [clicks], [query])
    return time.process_time() - began, ranking


if __name__ == "__main__":
    app()
