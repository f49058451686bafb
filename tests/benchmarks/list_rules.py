"""Measure the CPU time of one list by the rules of its request.

    python tests/benchmarks/memory.py bundle --items 58324 --out runs/random
    python tests/benchmarks/list_rules.py --bundle runs/random

One thread, batches of one, lists of 20 items after two clicks. The bundle needs the attributes of
the synthetic shop; prices are added to them here.
"""

import os
import time
from pathlib import Path
from statistics import median
from typing import Annotated

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from recsys.bundle.golden import open_predictor
from recsys.catalogue.attributes import Range
from recsys.catalogue.catalogue import Catalogue
from recsys.predictor import Predictor, SessionState
from service.list_rules import ListQuery, ranking_query

POPULAR = 100  # pinned items are among so many


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle folder.")],
    calls: Annotated[int, typer.Option(help="Lists for each row; the median counts.")] = 200,
) -> None:
    torch.set_num_threads(1)
    predictor = open_predictor(bundle)
    catalogue = priced(predictor.catalogue)
    began = time.process_time()
    assert catalogue.attributes["price"].numbers is not None
    first = time.process_time() - began
    popular = catalogue.item_ids.take(catalogue.by_popularity[:POPULAR].tolist())
    boost = {"category": {"Tea": 0.5}, "brand": {"Aurora": 0.1}}
    table = Table("rules", "milliseconds", title=f"{len(catalogue):,} items")
    for name, query in {
        "none": ListQuery(),
        "filter by category": ListQuery(filter={"category": ["Tea"]}),
        "filter by price": ListQuery(filter={"price": Range(lt=500)}),
        "boost": ListQuery(boost=boost),
        "max_per, 3 of one category": ListQuery(max_per={"category": 3}),
        "max_per, 1 of one brand": ListQuery(max_per={"brand": 1}),
        "pin, 3 items": ListQuery(pin=popular[:3]),
        "all of these": ListQuery(
            filter={"price": Range(lt=500)},
            boost=boost,
            max_per={"category": 3, "brand": 1},
            pin=popular[:3],
        ),
        "100 items, all but the filter": ListQuery(
            k=100, boost=boost, max_per={"category": 3, "brand": 1}, pin=popular[:3]
        ),
    }.items():
        table.add_row(name, f"{seconds(predictor, catalogue, query, calls) * 1000:.2f}")
    table.add_row("read the prices as numbers, once", f"{first * 1000:.1f}")
    Console().print(table)


def priced(catalogue: Catalogue) -> Catalogue:
    """Return the catalogue with a price for each item, 0 to 999.99."""
    prices = np.random.default_rng(2).integers(0, 100_000, len(catalogue)) / 100
    attributes = {**catalogue.attributes, "price": [f"{price:g}" for price in prices]}
    return Catalogue(catalogue.item_ids, catalogue.counts, attributes)


def seconds(predictor: Predictor, catalogue: Catalogue, query: ListQuery, calls: int) -> float:
    """Return the median CPU seconds of one list, after the first few."""
    spent = []
    items = np.random.default_rng(1).integers(0, len(catalogue), (calls, 2)).tolist()
    for clicks in items:
        began = time.process_time()
        state = predictor.advance([SessionState(clicks)])
        predictor.rank(state, [clicks], [ranking_query(query, catalogue, ())])
        spent.append(time.process_time() - began)
    return median(spent[calls // 10 :])


if __name__ == "__main__":
    typer.run(main)
