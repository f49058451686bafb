from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.items import items_text, read_items
from recsys.errors import BadInput


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "items.csv"
    path.write_text(text)
    return path


def refused(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_items(path, "item_id").attributes(["a"])
    return str(caught.value)


def test_attributes_stand_in_the_order_of_the_catalogue(tmp_path: Path) -> None:
    path = written(tmp_path, "item_id,name,colour\nb,Pot,\na,Tea,green\nz,Cup,red\n")

    found = read_items(path, "item_id").attributes(["a", "new", "b"])

    assert found == {"name": ["Tea", None, "Pot"], "colour": ["green", None, None]}


def test_whole_numbers_with_gaps_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_id": [1, 2, 3], "shelf": [7.0, None, 7.5]}), path)

    assert read_items(path, "item_id").attributes(["1", "2", "3"]) == {"shelf": ["7", None, "7.5"]}


def test_an_item_with_two_rows_is_refused(tmp_path: Path) -> None:
    assert "item 'a' has several rows" in refused(written(tmp_path, "item_id,n\na,1\na,2\n"))


def test_a_file_of_other_items_is_refused(tmp_path: Path) -> None:
    items = read_items(written(tmp_path, "item_id,n\nq,1\na,2\n"), "item_id")

    assert items.lacks(["a", "b"]) == 1
    with pytest.raises(BadInput, match="2 items without any click"):
        items.lacks(["b"])


def test_reserved_and_duplicate_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be called 'item_id'"):
        read_items(written(tmp_path, "sku,item_id\na,1\n"), "sku")
    assert "cannot be called 'count'" in refused(written(tmp_path, "item_id,count\na,1\n"))
    assert "two columns are called 'n'" in refused(written(tmp_path, "item_id,n,n\na,1,2\n"))


def test_an_unusable_path_is_called_an_items_file(tmp_path: Path) -> None:
    (tmp_path / "items.xlsx").touch()
    heading = "The items file cannot be used"

    assert refused(tmp_path / "items.xlsx").startswith(f"{heading}: {tmp_path}/items.xlsx ends in")
    assert refused(tmp_path / "missing.csv").startswith(heading)
    assert refused(written(tmp_path, "")).startswith(heading)


def test_ids_that_are_lists_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_id": [["a"]], "n": [1]}), path)

    assert "ids must be texts or whole numbers" in refused(path)


def test_an_items_file_has_its_own_separator_and_encoding(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id;name\na;Gürtel\n", encoding="cp1252")

    found = read_items(path, "item_id", items_text(";", "cp1252")).attributes(["a"])

    assert found == {"name": ["Gürtel"]}
    with pytest.raises(BadInput, match="give --items-encoding"):
        read_items(path, "item_id", items_text(";"))
    with pytest.raises(BadInput, match="Give --items-delimiter ';'"):
        read_items(path, "item_id", items_text(None, "cp1252"))
    with pytest.raises(BadInput, match="--items-delimiter must be one character"):
        items_text("::")
