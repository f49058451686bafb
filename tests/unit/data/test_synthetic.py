from pathlib import Path

import numpy as np

from data.click_options import ClickOptions
from data.clicks import read_clicks
from data.synthetic import Shop, write_shop


def test_the_successor_is_the_next_product_of_the_same_maker() -> None:
    shop = Shop(makers=2)
    names = shop.table()["name"]
    tent = int(np.flatnonzero(names == "Birch Tent")[0])

    after = shop.successor(np.array([tent]))[0]

    assert names[after] == "Birch Sleeping bag"


def test_the_products_of_a_category_form_a_cycle() -> None:
    shop = Shop(makers=1)
    items = np.arange(len(shop))
    walked = items
    for _ in range(shop.products_each):
        walked = shop.successor(walked)

    assert (walked == items).all()


def test_ids_and_names_are_distinct_however_many_makers() -> None:
    table = Shop(makers=45).table()

    assert table["item_id"].is_unique
    assert table["name"].is_unique
    assert len(table) == 20 * 10 * 45


def test_most_steps_go_to_the_successor() -> None:
    shop = Shop(makers=3)
    clicks = shop.walk(sessions=3000, seed=1)
    items, sessions = clicks["item"].to_numpy(), clicks["session_id"].to_numpy()
    same = sessions[1:] == sessions[:-1]

    share = (shop.successor(items[:-1]) == items[1:])[same].mean()

    assert 0.69 < share < 0.75


def test_one_seed_is_one_shop_and_the_files_can_be_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_shop(tmp_path / name, makers=1, sessions=50, seed=4)

    first, second = ((tmp_path / n / "clicks.csv").read_bytes() for n in ("a", "b"))
    assert first == second
    assert len(read_clicks(ClickOptions(tmp_path / "a" / "clicks.csv"))) > 100
