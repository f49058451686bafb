"""Files of the demo shop: one seed is one shop, and every item has a picture of its own."""

from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pandas as pd

from data.click_options import ClickOptions
from data.clicks import read_clicks
from data.shop.files import write_demo_shop

PICTURE = "data:image/svg+xml,"


def test_one_seed_is_one_shop_and_the_files_can_be_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_demo_shop(tmp_path / name, visits=50, seed=4)

    first, second = ((tmp_path / name / "clicks.csv").read_bytes() for name in ("a", "b"))
    assert first == second
    assert len(read_clicks(ClickOptions(tmp_path / "a" / "clicks.csv"))) > 100
    items = pd.read_csv(tmp_path / "a" / "items.csv")
    assert len(items) == items["item_id"].nunique() == items["image"].nunique() == 1200
    assert {"aurora-tent", "birch-desk"} <= set(items["item_id"])
    tent = items.set_index("item_id").loc["aurora-tent"]
    assert (tent["name"], tent["category"]) == ("Aurora Tent", "Camping")
    assert tent["price"] == 182.95  # 189 less 3 % is 183.33


def test_pictures_are_drawings_without_scripts_or_addresses(tmp_path: Path) -> None:
    write_demo_shop(tmp_path, visits=2)

    for text in pd.read_csv(tmp_path / "items.csv")["image"][::6]:  # one brand
        assert text.startswith(PICTURE)
        drawing = ElementTree.fromstring(unquote(text.removeprefix(PICTURE)))
        tags = {element.tag.rpartition("}")[2] for element in drawing.iter()}
        assert tags <= {"svg", "path", "g", "circle"}
        names = {name for element in drawing.iter() for name in element.attrib}
        assert names <= {"viewBox", "fill", "d", "cx", "cy", "r"}
