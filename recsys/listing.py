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
    """Options of a list of recommendations."""

    k: int = 10
    exclude_seen: bool = False
    filters: Sequence[str] = ()  # attribute:value
    json: bool = False


class ListedItem(TypedDict):
    """One item of a list, as JSON."""

    item_id: str
    score: float


class ListFields(TypedDict):
    """List of recommendations as JSON, with the field names of the HTTP API."""

    model_id: str
    source: str
    items: list[ListedItem]


def show_recommendations(
    bundle: Path, clicks: Sequence[str], options: ListOptions, console: Console
) -> None:
    """Print recommendations after these clicks; unknown ids are reported and skipped."""
    predictor = open_predictor(bundle)
    catalogue = predictor.catalogue
    allowed = None
    if options.filters:
        allowed = catalogue.allowed(read_filter(options.filters, catalogue.attributes))
    indices = {item_id: catalogue.find(item_id) for item_id in clicks}
    unknown = [item_id for item_id, item in indices.items() if item is None]
    window = clicks[-predictor.window :]  # unknown clicks count, as in the service
    known = [item for item_id in window if (item := indices[item_id]) is not None]
    excluded = known if options.exclude_seen else ()
    query = RankingQuery(options.k, excluded, allowed)
    ranking = predictor.recommend(predictor.known(window), query)
    if options.json:
        fields = {**list_as_json(ranking, predictor), "unknown_items": unknown}
        sys.stdout.write(json.dumps(fields, ensure_ascii=False) + "\n")
        return
    if unknown:
        console.print(
            f"Not in the catalogue, skipped: {', '.join(map(repr, unknown))}.", markup=False
        )
    if not ranking.items:
        console.print("No item is left: the filter or --exclude-seen allows none.", markup=False)
        return
    title = "Most popular items" if ranking.source == "popular" else "Likely next"
    ids = catalogue.item_ids.take(ranking.items)
    scored = list(zip(ids, ranking.scores, strict=True))
    print_fitting(console, ranked_tables(catalogue, scored, title))


def list_as_json(ranking: Ranking, predictor: Predictor) -> ListFields:
    """Return a list with the field names of the HTTP API."""
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
    """Yield tables with one row for each item, and fewer and fewer attributes."""
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
