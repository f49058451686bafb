"""Recommendations as a table in the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.golden import open_predictor
from recsys.retrieval import Wish

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
    names = list(catalogue.attributes)[:SHOWN_ATTRIBUTES]
    table = Table("", "item", *names, title=title)
    table.add_column("score", justify="right")
    for place, (item, score) in enumerate(zip(ranking.items, ranking.scores, strict=True), start=1):
        texts = [catalogue.attributes[name][item] or "" for name in names]
        cells = [str(place), catalogue.item_ids[item], *texts, f"{score:.3f}"]
        table.add_row(*(Text(cell) for cell in cells))  # Text: an id is never markup
    console.print(table)
