"""Memory of the service by its workers, and what a catalogue costs, for anyone to measure again.

    python tests/benchmarks/memory.py bundle --items 1140000 --out runs/random
    python tests/benchmarks/memory.py serve --bundle runs/random --most 3
    python tests/benchmarks/memory.py catalogue --bundle runs/random

`bundle` needs no training: its weights are random, which memory does not mind.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from data.synthetic import Shop
from recsys.bundle.layout import ITEMS
from recsys.catalogue.catalogue import Catalogue, read_catalogue
from recsys.predictor import Predictor
from recsys.retrieval.candidates import CandidateIndex, IndexSettings, with_bias
from recsys.retrieval.exact import RankingQuery, RetrievalSettings
from recsys.retrieval.item_lists import ItemLists
from service.server.embedded_redis import private_redis
from tests.benchmarks.serving import PRODUCTS, Bundle, bench, service
from tests.support.service.processes import Resident, family, resident
from training.export import Export, write_bundle
from training.model.weights import Weights, eager_predictor
from training.recipe import Recipe
from training.retrieval.build_index import build_index
from training.retrieval.build_item_lists import COMMON, LENGTH
from training.retrieval.recall_check import EVERY_ITEM, ChosenRetrieval

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
FOUND = 50_000  # ids looked up one after the other, more than are remembered
COLUMNS = ("rss", "pss", "private", "written", "peak")


@app.command()
def bundle(
    out: Annotated[Path, typer.Option(help="Folder for the bundle; must be new or empty.")],
    items: int = 1_000_000,
    hidden: int = 128,
    retrieval: Annotated[str, typer.Option(help="exact, or a kind of index.")] = "lists",
) -> None:
    """So many items of the synthetic shop, named and described, with random weights."""
    table = Shop(makers=max(round(items / PRODUCTS), 1)).table()
    ids, draw = table.pop("item_id").tolist(), np.random.default_rng(1)
    texts = {str(name): column.tolist() for name, column in table.items()}
    catalogue = Catalogue(ids, draw.zipf(1.5, len(ids)).clip(max=1_000_000), texts)
    recipe = Recipe(hidden=hidden)
    weights = Weights.fresh(recipe.size(len(ids)), torch.Generator().manual_seed(1))
    golden = [[ids[at], ids[-at]] for at in (1, 2, 3)]
    found = EVERY_ITEM
    if retrieval == "lists":
        index: CandidateIndex = _lists(eager_predictor(weights, catalogue, recipe), golden)
        found = ChosenRetrieval(RetrievalSettings(retrieval, index.settings), index)
    elif retrieval != "exact":
        index = build_index(weights.exported().matrix, weights.bias, retrieval, 1.0)
        found = ChosenRetrieval(RetrievalSettings(retrieval, index.settings), index)
    write_bundle(out, Export(weights, catalogue, recipe, {}, {}, golden, retrieval=found))


def _lists(predictor: Predictor, golden: list[list[str]]) -> ItemLists:
    """As large as real ones, and right for the golden sessions only."""
    draw, items = torch.Generator().manual_seed(1), len(predictor.catalogue)
    lists = torch.randint(items, (items, LENGTH), generator=draw, dtype=torch.int32)
    for clicks in golden:
        known = [predictor.catalogue.index(item_id) for item_id in clicks]
        best = predictor.recommend(known, RankingQuery(LENGTH)).items
        lists[known[-1]] = torch.tensor(best, dtype=torch.int32)
    matrix = predictor.exact_retrieval.matrix[:COMMON]
    vectors = torch.from_numpy(with_bias(matrix.numpy(), 0.0))
    common = torch.arange(COMMON, dtype=torch.int32)
    return ItemLists(lists, common, vectors, IndexSettings("lists", 1.0, probes=1))


@app.command()
def serve(
    bundle: Bundle,
    most: Annotated[int, typer.Option(help="Workers.")] = 2,
    rate: float = 50.0,
    seconds: float = 8.0,
) -> None:
    """MB of each process with 1, 2, … workers, after some load; PSS adds up, the others do not."""
    totals = []
    for workers in range(1, most + 1):
        with private_redis() as redis, service(bundle, redis, workers) as ours:
            load = bench(bundle, ours.url, rate=rate, seconds=seconds, connections=32)
            found = {pid: resident(pid) for pid in family(ours.pid)}
        totals.append(sum(own.pss for own in found.values()))
        console.print(_table(f"{workers} workers", found))
        console.print(f"ready after {ours.ready_s:.1f} s; {load['rate']:,.0f} requests/s")
    for workers, (less, more) in enumerate(pairwise(totals), start=2):
        console.print(f"worker {workers} adds {more - less:,.0f} MB")


def _table(title: str, found: dict[int, Resident]) -> Table:
    table = Table("process", *COLUMNS, title=title)
    for pid, own in found.items():
        table.add_row(str(pid), *(f"{getattr(own, name):,.0f}" for name in COLUMNS))
    table.add_row("all", "", f"{sum(own.pss for own in found.values()):,.0f}", "", "", "")
    return table


@app.command()
def catalogue(bundle: Bundle, rounds: int = 5) -> None:
    """CPU time of reading and of each verb (the first time, then the best), and memory."""
    before, began = resident(os.getpid()).written, time.process_time()
    found = read_catalogue(bundle / ITEMS)
    found.find("nothing")
    took = time.process_time() - began
    _ = found.popularity, found.by_popularity
    grown = resident(os.getpid()).written - before
    console.print(f"{len(found):,} items: read in {took:.2f} s of CPU, {grown:,.0f} MB")
    for name, (call, times) in _verbs(found).items():
        spent = []
        for _ in range(rounds):
            began = time.process_time()
            call()
            spent.append((time.process_time() - began) / times * 1e6)
        console.print(f"{name}: {spent[0]:,.2f} µs, then {min(spent[1:]):,.2f}")


def _verbs(found: Catalogue) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, and how often it is done in a call."""
    draw = np.random.default_rng(1)
    lists = draw.integers(0, len(found), (FOUND // 20, 20)).tolist()
    ids = ["".join(list(found.item_ids[item])) for items in lists for item in items]  # not hashed
    unknown = [item_id + "?" for item_id in ids]
    verbs: dict[str, tuple[Callable[[], object], int]] = {
        "find, others each time": (lambda: [found.find(item_id) for item_id in ids], len(ids)),
        "find, the same 20": (lambda: [found.find(i) for i in ids[:20] * (FOUND // 20)], FOUND),
        "find, unknown": (lambda: [found.find(item_id) for item_id in unknown], len(ids)),
        "find all": (lambda: found.find_all(ids), len(ids)),
        "ids of 20 items": (lambda: [found.item_ids.take(items) for items in lists], len(lists)),
    }
    for name, texts in found.attributes.items():
        wanted = {name: [texts[0] or ""]}
        verbs[f"allowed, {name}"] = (partial(found.allowed, wanted), 1)
    return verbs


if __name__ == "__main__":
    app()
