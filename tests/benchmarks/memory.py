"""Measure the memory of the service by number of workers, and the cost of a catalogue.

    python tests/benchmarks/memory.py bundle --items 1140000 --out runs/random
    python tests/benchmarks/memory.py bundle --items 1140000 --additions --out runs/blended
    python tests/benchmarks/memory.py serve --bundle runs/random --most 3
    python tests/benchmarks/memory.py catalogue --bundle runs/random

`bundle` trains nothing: its weights are random, which makes no difference to memory.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console
from rich.table import Table

from data.sessions import Sessions
from data.synthetic import Shop
from recsys.bundle.layout import ITEMS
from recsys.catalogue.catalogue import Catalogue, read_catalogue
from recsys.neighbours.blend import NORMALIZING, VOTES, Blend, BlendSettings
from recsys.neighbours.scoring import VSTAN
from recsys.predictor import Predictor
from recsys.retrieval.candidates import CandidateIndex, IndexSettings, with_bias
from recsys.retrieval.exact import RankingQuery, RetrievalSettings
from recsys.retrieval.int8 import Int8Index
from recsys.retrieval.item_lists import ItemLists
from service.server.embedded_redis import private_redis
from tests.benchmarks.additions import TERM
from tests.benchmarks.serving import PRODUCTS, Bundle, bench, service
from tests.support.service.processes import Resident, family, resident
from training.baselines.session_knn import build_neighbour_index
from training.export import Export, write_bundle
from training.model.weights import Weights, eager_predictor
from training.recipe import Recipe
from training.retrieval.build_item_lists import LIST_LENGTH, MAX_COMMON
from training.retrieval.recall_check import EVERY_ITEM, ChosenRetrieval

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
LOOKUPS = 50_000  # of different ids, more than the cache holds
COLUMNS = ("rss", "pss", "private", "written", "peak")


@app.command()
def bundle(
    out: Annotated[Path, typer.Option(help="Folder for the bundle; must be new or empty.")],
    items: int = 1_000_000,
    hidden: int = 128,
    retrieval: Annotated[str, typer.Option(help="exact, or a kind of index.")] = "lists",
    additions: Annotated[
        bool, typer.Option(help="With a repeat term and neighbours out of random sessions.")
    ] = False,
    brands: Annotated[
        int, typer.Option(help="So many brands and a price, at random; items in random order.")
    ] = 0,
) -> None:
    """Write a bundle of so many items of the synthetic shop, with random weights."""
    table = Shop(makers=max(round(items / PRODUCTS), 1)).table()
    if brands:
        table = _scattered(table, brands)
    ids, draw = table.pop("item_id").tolist(), np.random.default_rng(1)
    texts = {str(name): column.tolist() for name, column in table.items()}
    catalogue = Catalogue(ids, draw.zipf(1.5, len(ids)).clip(max=1_000_000), texts)
    recipe = Recipe(hidden=hidden)
    weights = Weights.fresh(recipe.size(len(ids)), torch.Generator().manual_seed(1))
    repeats, blend = (TERM, _random_blend(catalogue)) if additions else (None, None)
    golden = [[ids[at], ids[-at]] for at in (1, 2, 3)]
    chosen = EVERY_ITEM
    if retrieval == "lists":
        index: CandidateIndex = _lists(eager_predictor(weights, catalogue, recipe), golden)
        chosen = ChosenRetrieval(RetrievalSettings(retrieval, index.settings), index)
    elif retrieval != "exact":
        index = Int8Index.of(weights.exported().matrix, weights.bias, 1.0)
        chosen = ChosenRetrieval(RetrievalSettings(retrieval, index.settings), index)
    write_bundle(
        out, Export(weights, catalogue, recipe, {}, {}, golden, repeats, blend, retrieval=chosen)
    )


def _scattered(table: pd.DataFrame, brands: int) -> pd.DataFrame:
    """Return the items in random order, with random brands and prices."""
    draw = np.random.default_rng(3)
    table = table.iloc[draw.permutation(len(table))].reset_index(drop=True)
    table["brand"] = [f"brand {number}" for number in draw.integers(0, brands, len(table))]
    table["price"] = [f"{price / 100:g}" for price in draw.integers(0, 100_000, len(table))]
    return table


def _random_blend(catalogue: Catalogue) -> Blend:
    """Return neighbours out of random sessions of four clicks, twelve clicks for each item.

    As many are searched and compared as with the default recipe.
    """
    recipe = Recipe()
    settings = dataclasses.replace(
        VSTAN, neighbours=recipe.neighbours, candidates=recipe.candidates
    )
    draw, clicks = np.random.default_rng(2), 12 * len(catalogue) // 4 * 4
    chance = catalogue.counts / catalogue.counts.sum()
    items = draw.choice(len(catalogue), clicks, p=chance).astype(np.int32)
    offsets = np.arange(0, clicks + 1, 4)
    sessions = Sessions(items, np.arange(clicks) * 1000, offsets, tuple(catalogue.item_ids))
    index = build_neighbour_index(sessions, len(catalogue), settings.candidates)
    return Blend(index, BlendSettings(0.3, settings, NORMALIZING, VOTES))


def _lists(predictor: Predictor, golden: list[list[str]]) -> ItemLists:
    """Build item lists of real size that are right for the golden sessions only."""
    draw, items = torch.Generator().manual_seed(1), len(predictor.catalogue)
    lists = torch.randint(items, (items, LIST_LENGTH), generator=draw, dtype=torch.int32)
    for clicks in golden:
        known = [predictor.catalogue.index(item_id) for item_id in clicks]
        top_k = predictor.recommend(known, RankingQuery(LIST_LENGTH)).items
        lists[known[-1]] = torch.tensor(top_k, dtype=torch.int32)
    matrix = predictor.exact_retrieval.matrix[:MAX_COMMON]
    vectors = torch.from_numpy(with_bias(matrix.numpy(), 0.0))
    common = torch.arange(MAX_COMMON, dtype=torch.int32)
    return ItemLists(lists, common, vectors, IndexSettings("lists", 1.0, probes=1))


@app.command()
def serve(
    bundle: Bundle,
    most: Annotated[int, typer.Option(help="Maximum number of workers.")] = 2,
    rate: float = 50.0,
    seconds: float = 8.0,
) -> None:
    """Print MB of each process with 1, 2, … workers after some load; only PSS adds up."""
    totals = []
    for workers in range(1, most + 1):
        with private_redis() as redis, service(bundle, redis, workers) as ours:
            load = bench(bundle, ours.url, rate=rate, seconds=seconds, connections=32)
            memory = {pid: resident(pid) for pid in family(ours.pid)}
        totals.append(sum(process.pss for process in memory.values()))
        console.print(_table(f"{workers} workers", memory))
        console.print(f"ready after {ours.ready_s:.1f} s; {load['rate']:,.0f} requests/s")
    for workers, (less, more) in enumerate(pairwise(totals), start=2):
        console.print(f"worker {workers} adds {more - less:,.0f} MB")


def _table(title: str, memory: dict[int, Resident]) -> Table:
    table = Table("process", *COLUMNS, title=title)
    for pid, process in memory.items():
        table.add_row(str(pid), *(f"{getattr(process, name):,.0f}" for name in COLUMNS))
    table.add_row("all", "", f"{sum(process.pss for process in memory.values()):,.0f}", "", "", "")
    return table


@app.command()
def catalogue(bundle: Bundle, rounds: int = 5) -> None:
    """Print CPU time and memory of reading a catalogue, and CPU time of each method."""
    before, began = resident(os.getpid()).written, time.process_time()
    opened = read_catalogue(bundle / ITEMS)
    opened.find("nothing")
    took = time.process_time() - began
    _ = opened.popularity, opened.by_popularity
    grown = resident(os.getpid()).written - before
    console.print(f"{len(opened):,} items: read in {took:.2f} s of CPU, {grown:,.0f} MB")
    for name, (call, times) in _methods(opened).items():
        spent = []
        for _ in range(rounds):
            began = time.process_time()
            call()
            spent.append((time.process_time() - began) / times * 1e6)
        console.print(f"{name}: {spent[0]:,.2f} µs, then {min(spent[1:]):,.2f}")


def _methods(catalogue: Catalogue) -> dict[str, tuple[Callable[[], object], int]]:
    """Return the calls to time, with the number of lookups in each."""
    draw = np.random.default_rng(1)
    lists = draw.integers(0, len(catalogue), (LOOKUPS // 20, 20)).tolist()
    # not hashed
    ids = ["".join(list(catalogue.item_ids[item])) for items in lists for item in items]
    unknown = [item_id + "?" for item_id in ids]
    methods: dict[str, tuple[Callable[[], object], int]] = {
        "find, different ids": (lambda: [catalogue.find(item_id) for item_id in ids], len(ids)),
        "find, the same 20": (
            lambda: [catalogue.find(i) for i in ids[:20] * (LOOKUPS // 20)],
            LOOKUPS,
        ),
        "find, unknown": (lambda: [catalogue.find(item_id) for item_id in unknown], len(ids)),
        "find all": (lambda: catalogue.find_all(ids), len(ids)),
        "ids of 20 items": (lambda: [catalogue.item_ids.take(row) for row in lists], len(lists)),
    }
    for name, texts in catalogue.attributes.items():
        wanted = {name: [texts[0] or ""]}
        methods[f"allowed, {name}"] = (partial(catalogue.allowed, wanted), 1)
    return methods


if __name__ == "__main__":
    app()
