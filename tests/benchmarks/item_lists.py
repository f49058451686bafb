r"""Compare item lists from shortlists with those from all pairs, and with other indexes.

    python tests/benchmarks/successor_log.py clicks.parquet --items 170000 --clicks 1000000
    recsys train --clicks clicks.parquet --split-column split --recipe default \
        --set retrieval=exact --out runs/150k
    python tests/benchmarks/item_lists.py --bundle runs/150k --clicks clicks.parquet \
        --split-column split --index 0 --index 15000 --index int8

builds each index, measures its recall@20 on hidden states of validation sessions as `recsys train`
does, for each number of probes, and the time of a query, in batches of 1 and of 32, in one thread.
"""

import resource
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from data.click_options import ClickOptions
from data.prepare import prepare
from recsys.bundle.golden import open_predictor
from recsys.bundle.load import load_bundle
from recsys.predictor import Predictor
from recsys.retrieval.candidates import CandidateIndex
from recsys.retrieval.exact import RankingQuery, Retrieval
from recsys.retrieval.int8 import Int8Index
from recsys.retrieval.item_lists import ItemLists
from recsys.retrieval.rerank import Reranked, query_vectors
from training.recipe import Recipe
from training.retrieval.build_item_lists import build_item_lists
from training.retrieval.recall_check import (
    PROBES,
    RecallCheck,
    States,
    states_from,
    validation_states,
)

BATCHES, ROUNDS = (1, 32), 20  # of the queries that are timed

console = Console(width=140)


def build(name: str, predictor: Predictor, scale: float, bias_unit: float) -> CandidateIndex:
    """Return item lists from shortlists of so many items, 0 for all pairs; or a kind of index."""
    if name.isdigit():
        shortlist = int(name) or len(predictor.catalogue)
        with console.status(f"lists, {name}") as status:
            return build_item_lists(
                predictor,
                scale,
                bias_unit,
                lambda share: status.update(f"lists, {name}: {share:.1%}"),
                None if name == "0" else shortlist,
            )
    exact = predictor.exact_retrieval
    return Int8Index.of(exact.matrix, exact.bias, bias_unit)


def milliseconds(retrieval: Retrieval, states: States, batch: int) -> float:
    """Return the median CPU time of a query in a batch of this size."""
    queries, spent = [RankingQuery()] * batch, []
    for first in range(0, ROUNDS * batch, batch):
        rows = slice(first % (len(states) - batch), first % (len(states) - batch) + batch)
        began = time.thread_time()
        retrieval.quick_top_k(states.hidden[rows], states.clicks[rows], queries)
        spent.append((time.thread_time() - began) / batch * 1000)
    return statistics.median(spent)


def probed(index: CandidateIndex) -> Iterator[CandidateIndex]:
    for probes in PROBES.get(index.settings.kind, (0,)):
        yield index.with_probes(probes)


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle of the model.")],
    clicks: Annotated[Path, typer.Option(help="Click log that it was trained on.")],
    index: Annotated[list[str], typer.Option(help="Items of a shortlist, 0 for all; or int8.")],
    split_column: Annotated[str | None, typer.Option(help="Column of the split.")] = None,
) -> None:
    predictor = open_predictor(bundle)
    manifest = load_bundle(bundle).manifest
    scale, recipe = manifest.size.scale, Recipe(validation=manifest.recipe["validation"])
    states = validation_states(
        predictor, states_from(prepare(ClickOptions(clicks, split_column=split_column)), recipe)
    )
    began = time.perf_counter()
    check = RecallCheck(predictor, states)
    console.print(
        f"{len(predictor.catalogue):,} items; exact lists of {len(states):,} states in "
        f"{time.perf_counter() - began:,.0f} s"
    )
    unit = float(np.linalg.norm(query_vectors(states.hidden, scale), axis=1).mean())
    all_pairs: ItemLists | None = None
    for name in index:
        began, cpu = time.perf_counter(), time.process_time()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        made = build(name, predictor, scale, unit)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        table = Table("probes", "recall@20", *(f"ms, batch of {size}" for size in BATCHES))
        table.title = (
            f"{name}: {seconds:,.0f} s, {cpu:,.0f} s of CPU, peak {before / 2**20:.2f} to "
            f"{peak / 2**20:.2f} GB"
        )
        torch.set_num_threads(1)
        for each in probed(made):
            retrieval = Reranked(each, predictor.exact_retrieval, scale)
            recall = check.recall(retrieval)
            times = [f"{milliseconds(retrieval, states, size):.3f}" for size in BATCHES]
            shares = ", ".join(f"{share} {value:.4f}" for share, value in recall.items())
            table.add_row(str(each.settings.probes), shares, *times)
        if isinstance(made, ItemLists):
            all_pairs = all_pairs or (made if name == "0" else None)
            if all_pairs is not None:
                table.caption = f"{overlap(made, all_pairs):.4f} of the lists of all pairs"
        console.print(table)


def overlap(lists: ItemLists, others: ItemLists) -> float:
    """Return the share of the other lists' items that these lists have, over sampled items."""
    mine, theirs = lists.tensors()[0], others.tensors()[0]
    rows = np.linspace(0, len(mine) - 1, 2000, dtype=np.int64)
    shared = [len(np.intersect1d(mine[row], theirs[row])) for row in rows]
    return float(np.mean(shared)) / theirs.shape[1]


if __name__ == "__main__":
    typer.run(main)
