"""Recommendations as a table in the terminal, or as JSON."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.bundle.golden import open_predictor
from recsys.catalogue.catalogue import Catalogue, read_filter
from recsys.console import add_row, neat_table, print_fitting
from recsys.predictor import Predictor, Ranking
from recsys.retrieval.exact import RankingQuery

SHOWN_ATTRIBUTES = 3


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What a list may hold, and how it is shown."""

    k: int = 10
    exclude_seen: bool = False
    filters: Sequence[str] = ()  # attribute:value
    json: bool = False


class ListedItem(TypedDict):
    item_id: str
    score: float


class ListFields(TypedDict):
    """A list as JSON, its parts named as the HTTP API does."""

    model_id: str
    source: str
    items: list[ListedItem]


def show_recommendations(
    bundle: Path, clicks: Sequence[str], chosen: ListOptions, console: Console
) -> None:
    """Print what follows these clicks; unknown ids are said and passed over."""
    predictor = open_predictor(bundle)
    catalogue = predictor.catalogue
    allowed = None
    if chosen.filters:
        allowed = catalogue.allowed(read_filter(chosen.filters, catalogue.attributes))
    found = {item_id: catalogue.find(item_id) for item_id in clicks}
    unknown = [item_id for item_id, item in found.items() if item is None]
    window = clicks[-predictor.window :]  # unknown clicks have their place in it, as in the service
    known = [item for item_id in window if (item := found[item_id]) is not None]
    excluded = known if chosen.exclude_seen else ()
    ranking = predictor.recommend(known, RankingQuery(chosen.k, excluded, allowed))
    if chosen.json:
        said = {**list_as_json(ranking, predictor), "unknown_items": unknown}
        sys.stdout.write(json.dumps(said, ensure_ascii=False) + "\n")
        return
    if unknown:
        console.print(
            f"Not in the catalogue, passed over: {', '.join(map(repr, unknown))}.", markup=False
        )
    title = "Most popular items" if ranking.source == "popular" else "Likely next"
    ids = catalogue.item_ids.take(ranking.items)
    scored = list(zip(ids, ranking.scores, strict=True))
    print_fitting(console, ranked_tables(catalogue, scored, title))


def list_as_json(ranking: Ranking, predictor: Predictor) -> ListFields:
    ids = predictor.catalogue.item_ids.take(ranking.items)
    scored = zip(ids, ranking.scores, strict=True)
    return {
        "model_id": predictor.model_id,
        "source": ranking.source,
        "items": [{"item_id": item_id, "score": score} for item_id, score in scored],
    }


def ranked_tables(
    catalogue: Catalogue, scored: Sequence[tuple[str, float]], title: str, score: str = "score"
) -> Iterable[Table]:
    """One row an item with its first attributes; then with ever fewer of them."""
    names = list(catalogue.attributes)[:SHOWN_ATTRIBUTES]
    for shown in range(len(names), -1, -1):
        table = neat_table(title)
        table.add_column("", justify="right", style="dim")
        table.add_column("item", overflow="fold")
        for name in names[:shown]:
            table.add_column(Text(name), overflow="fold")
        table.add_column(score, justify="right", no_wrap=True)
        for place, (item_id, value) in enumerate(scored, start=1):
            item = catalogue.index(item_id)
            texts = [catalogue.attributes[name][item] or "" for name in names[:shown]]
            add_row(table, place, item_id, *texts, f"{value:.3f}")
        yield table
