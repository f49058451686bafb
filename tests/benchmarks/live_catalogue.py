"""Measure the live catalogue: lists with a tenth of the items changed, and how fast changes go in.

    python tests/benchmarks/memory.py bundle --items 1000000 --out runs/million
    python tests/benchmarks/live_catalogue.py lists --bundle runs/million
    python tests/benchmarks/live_catalogue.py intake --bundle runs/million
    recsys train --clicks shop/clicks.csv --items shop/items.csv --content category,brand,price
    python tests/benchmarks/live_catalogue.py new-items --bundle bundle

`lists` measures the CPU time of a list in turns, of the bundle as it is and with an overlay: a
tenth of the items has another value of an attribute, and a tenth of those is sold out. `intake`
changes items of a running service as fast as it acknowledges, and waits until it shows them.
`new-items` puts new items, one at a time, and measures when two processes recommend them.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from recsys.bundle.golden import open_predictor
from recsys.bundle.layout import ITEMS
from recsys.catalogue.catalogue import read_catalogue
from recsys.client import Client
from recsys.client.http import ItemParams
from recsys.live.entry import ItemEntry
from recsys.live.overlay import Overlay
from recsys.predictor import Predictor, SessionState
from service.middleware.auth import hash_of, new_key
from service.recommendation.list_rules import ListQuery, ranking_query
from service.server.embedded_redis import private_redis
from tests.support.service.servers import ServerProcess

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
Bundle = Annotated[Path, typer.Option(help="Bundle folder.")]
PER_CALL, CHANGED, SOLD_OUT = 1000, 0.1, 0.1
PATIENCE = 10.0  # seconds until a new item counts as not recommended


@app.command()
def lists(
    bundle: Bundle,
    calls: Annotated[int, typer.Option(help="Lists for each row and way.")] = 300,
) -> None:
    """Compare lists without and with an overlay."""
    torch.set_num_threads(1)
    base = open_predictor(bundle)
    overlay = Overlay(base)
    entries = changed_items(base)
    seconds = spent(lambda: overlay.apply(entries))
    made: list[Predictor] = []
    snapshot = spent(lambda: made.append(overlay.predictor()))
    console.print(
        f"{len(entries):,} entries applied in {seconds:.2f} s, a predictor made in "
        f"{snapshot * 1000:.0f} ms"
    )
    one = dict(list(entries.items())[:1])
    again = spent(lambda: overlay.apply(one)) + spent(overlay.predictor)
    console.print(f"one more change and a predictor: {again * 1000:.1f} ms")
    attributes = list(base.catalogue.attributes)
    table = Table("list", "p50, ms", "p90", "p50 with the overlay", "p90", "ratio of p90")
    queries = {"of 20": ListQuery(), "of 50": ListQuery(k=50)}
    for name in attributes:
        distinct, most = base.catalogue.frequent_values[name]
        if distinct < len(base.catalogue) / 2:
            queries[f"by {name}"] = ListQuery(filter={name: [most[0][0]]})
    for title, query in queries.items():
        plain, changed = measure([base, made[0]], query, calls)
        figures = [np.percentile(times, (50, 90)) * 1000 for times in (plain, changed)]
        ratio = figures[1][1] / figures[0][1]
        table.add_row(title, *(f"{x:.3f}" for pair in figures for x in pair), f"{ratio:.2f}")
    console.print(table)


def changed_items(base: Predictor) -> dict[str, ItemEntry]:
    """Return entries of a tenth of the items."""
    draw = np.random.default_rng(3)
    catalogue = base.catalogue
    count = int(len(catalogue) * CHANGED)
    chosen = catalogue.item_ids.take(draw.choice(len(catalogue), count, replace=False).tolist())
    changes = [
        {name: most[int(draw.integers(len(most)))][0]}
        for name, (_, most) in list(catalogue.frequent_values.items())[:1]
        for _ in chosen
    ] or [{} for _ in chosen]
    sold_out = draw.random(count) < SOLD_OUT
    return {
        item_id: ItemEntry(not gone, change)
        for item_id, gone, change in zip(chosen, sold_out, changes, strict=True)
    }


def measure(predictors: Sequence[Predictor], query: ListQuery, calls: int) -> list[list[float]]:
    """Return the CPU seconds of lists after two clicks, the predictors in turns."""
    times: list[list[float]] = [[] for _ in predictors]
    count = len(predictors[0].catalogue)
    for clicks in np.random.default_rng(1).integers(0, count, (calls, 2)).tolist():
        for predictor, own in zip(predictors, times, strict=True):
            began = time.process_time()
            state = predictor.advance([SessionState(clicks)])
            predictor.rank(state, [clicks], [ranking_query(query, predictor.catalogue, ())])
            own.append(time.process_time() - began)
    return [own[calls // 10 :] for own in times]


def spent(job: Callable[[], object]) -> float:
    began = time.process_time()
    job()
    return time.process_time() - began


@app.command()
def intake(
    bundle: Bundle,
    changes: Annotated[int, typer.Option(help="Changes of single items.")] = 100_000,
) -> None:
    """Change the availability of items, in calls of 1,000."""
    catalogue = read_catalogue(bundle / ITEMS)
    ids = catalogue.item_ids.take(range(min(len(catalogue), changes)))
    key = new_key()
    log = bundle.parent / "intake.log"
    with (
        private_redis() as redis,
        ServerProcess(bundle, redis, log, RECSYS_CATALOGUE_KEY_HASHES=hash_of(key)) as server,
        Client(server.url, api_key=key, timeout=60) as client,
    ):
        began = time.perf_counter()
        for at in range(0, changes, PER_CALL):
            call: list[ItemParams] = [
                {"item_id": ids[n % len(ids)], "available": n // len(ids) % 2 == 1}
                for n in range(at, min(at + PER_CALL, changes))
            ]
            client.change_items(call)
        acknowledged = time.perf_counter()
        probe = ids[-1]
        client.change_items([{"item_id": probe, "attributes": {}, "available": True}])
        client.change_items([{"item_id": probe, "available": False}])
        while probe in [item.item_id for item in client.search(probe, limit=5).items]:
            time.sleep(0.01)
        shown = time.perf_counter()
    console.print(
        f"{changes:,} changes acknowledged in {acknowledged - began:.1f} s: "
        f"{changes / (acknowledged - began):,.0f} a second; the last one was shown "
        f"{shown - acknowledged:.2f} s later"
    )


@app.command()
def new_items(
    bundle: Annotated[Path, typer.Option(help="Bundle trained with --content.")],
    count: Annotated[int, typer.Option(help="New items.")] = 50,
) -> None:
    """Measure the seconds from the call that puts an item until both processes recommend it.

    A new item has the attributes of a trained one. The visit that fits it is of the three items
    that are most similar to the trained one, which lists hold the new item from a list of 100 on.
    """
    key = new_key()
    catalogue = read_catalogue(bundle / ITEMS)
    ids = catalogue.item_ids
    numeric = {name for name, column in catalogue.attributes.items() if column.numbers is not None}
    chosen = np.random.default_rng(5).choice(len(ids), count, replace=False).tolist()
    taken: list[float] = []
    with private_redis() as redis, ExitStack() as stack:
        clients = []
        for name in ("one", "two"):
            log = bundle.parent / f"new-items-{name}.log"
            server = ServerProcess(bundle, redis, log, RECSYS_CATALOGUE_KEY_HASHES=hash_of(key))
            url = stack.enter_context(server).url
            clients.append(stack.enter_context(Client(url, api_key=key, timeout=60)))
        for number, old in enumerate(ids.take(chosen)):
            visit = [item.item_id for item in clients[0].similar(old, k=3).items]
            texts = clients[0].look_up([old]).items[0].attributes
            attributes = {
                name: float(text) if name in numeric else text for name, text in texts.items()
            }
            new: ItemParams = {"item_id": f"new-{number}", "attributes": attributes}
            began = time.perf_counter()
            answer = clients[0].change_items([new])
            assert (answer.applied, answer.not_placed) == (1, []), answer
            if listed_everywhere(clients, new["item_id"], visit):
                taken.append(time.perf_counter() - began)
    console.print(f"{len(taken)} of {count} new items were recommended by both processes")
    if taken:
        late = sum(seconds > 1 for seconds in taken)
        console.print(
            f"after {np.median(taken):.2f} s at the median and {max(taken):.2f} s at most; {late} "
            "after more than 1 s"
        )


def listed_everywhere(clients: Sequence[Client], item_id: str, visit: list[str]) -> bool:
    """Wait until all lists after this visit hold the item; return whether that was so in time."""
    end = time.perf_counter() + PATIENCE
    waiting = list(clients)
    while waiting and time.perf_counter() < end:
        listed = [item.item_id for item in waiting[0].recommend(items=visit, k=100).items]
        if item_id in listed:
            waiting.pop(0)
        else:
            time.sleep(0.005)
    return not waiting


if __name__ == "__main__":
    app()
