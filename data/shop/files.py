"""Files of the demo shop: clicks and items, for `recsys train`."""

from pathlib import Path

from data.shop.assortment import items_table
from data.shop.pictures import data_uris
from data.shop.visits import VisitModel

VISITS = 15_000


def write_demo_shop(folder: Path, *, visits: int = VISITS, seed: int = 1) -> None:
    """Write `clicks.csv`, and `items.csv` with a picture of every item as a `data:` URI."""
    items = items_table()
    clicks = VisitModel().walk(visits, seed)
    clicks["item_id"] = items["item_id"].to_numpy()[clicks["item"]]
    clicks[["session_id", "item_id", "timestamp"]].to_csv(folder / "clicks.csv", index=False)
    items.assign(image=data_uris()).to_csv(folder / "items.csv", index=False)
