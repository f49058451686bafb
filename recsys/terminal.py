"""Recommendations as a table in the terminal."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.catalogue import Catalogue
from recsys.golden import open_predictor
from recsys.retrieval import Wish
from recsys.tables import add_row, neat_table, print_fitting

SHOWN_ATTRIBUTES = 3


def show_recommendations(bundle: Path, clicks: Sequence[str], k: int, console: Console) -> None:
    """What follows these clicks; unknown ids are said and passed over."""
    predictor = open_predictor(bundle)
    catalogue = predictor.catalogue
    found = {item_id: catalogue.find(item_id) for item_id in clicks}
    unknown = [item_id for item_id, item in found.items() if item is None]
    if unknown:
        console.print(
            f"Not in the catalogue, passed over: {', '.join(map(repr, unknown))}.", markup=False
        )
    window = clicks[-predictor.window :]  # unknown clicks have their place in it, as in the service
    known = [item for item_id in window if (item := found[item_id]) is not None]
    ranking = predictor.recommend(known, Wish(k=k))
    title = "Most popular items" if ranking.source == "popular" else "Likely next"
    ids = catalogue.item_ids.take(ranking.items)
    scored = list(zip(ids, ranking.scores, strict=True))
    print_fitting(console, ranked_tables(catalogue, scored, title))


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
