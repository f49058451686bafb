"""Write a click log whose visitors return to items as often as asked, or never.

    python tests/benchmarks/repeat_log.py clicks.csv --repeats 0.35 --immediate 0.18
    python tests/benchmarks/repeat_log.py clicks.csv --repeats 0 --immediate 0

A click repeats the last item with the probability `immediate`, and an earlier item of the visit,
the more likely the more often it was clicked, with the probability `repeats`. Of the other clicks,
some follow a fixed successor of the last item, and the others are random by popularity; none of
them is an item of the visit.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

LENGTHS = (2, 13)  # clicks of a visit, from and below
SUCCESSORS = 3  # of an item
SECONDS_BETWEEN_VISITS = 60

app = typer.Typer(add_completion=False)


@app.command()
def write(
    out: Annotated[Path, typer.Argument(help="CSV file to write.")],
    clicks: Annotated[int, typer.Option(help="About so many clicks.")] = 100_000,
    items: Annotated[int, typer.Option(help="Items of the catalogue.")] = 20_000,
    repeats: Annotated[float, typer.Option(help="Share of clicks on an earlier item.")] = 0.35,
    immediate: Annotated[float, typer.Option(help="Share of clicks on the last item.")] = 0.18,
    followed: Annotated[float, typer.Option(help="Share of the others on a successor.")] = 0.1,
    seed: int = 1,
) -> None:
    """Write the log."""
    random = np.random.default_rng(seed)
    successors = random.integers(0, items, (items, SUCCESSORS))
    popularity = 1 / np.arange(1, items + 1) ** 0.8
    cumulative = np.cumsum(popularity / popularity.sum())
    rows: list[tuple[int, int, int]] = []
    visit = 0
    while len(rows) < clicks:
        clicked: list[int] = []
        for at in range(random.integers(*LENGTHS)):
            kind = random.random()
            if clicked and kind < immediate:
                item = clicked[-1]
            elif len(set(clicked)) > 1 and kind < immediate + repeats:
                earlier = [other for other in clicked if other != clicked[-1]]
                item = earlier[random.integers(len(earlier))]
            else:
                item = _new_item(random, clicked, successors, cumulative, followed)
            clicked.append(item)
            rows.append((visit, item, visit * SECONDS_BETWEEN_VISITS + at))
        visit += 1
    table = pd.DataFrame(rows, columns=["session_id", "item_id", "timestamp"])
    table.to_csv(out, index=False)
    again = table.duplicated(["session_id", "item_id"]).mean()
    typer.echo(f"{len(table):,} clicks of {visit:,} visits; {again:.1%} on an item of the visit")


def _new_item(
    random: np.random.Generator,
    clicked: list[int],
    successors: np.ndarray,
    cumulative: np.ndarray,
    followed: float,
) -> int:
    while True:
        if clicked and random.random() < followed:
            item = int(successors[clicked[-1], random.integers(SUCCESSORS)])
        else:
            item = int(np.searchsorted(cumulative, random.random()))
        if item not in clicked:
            return item


if __name__ == "__main__":
    app()
