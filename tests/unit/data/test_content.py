"""Content of items: kinds of columns, vectors, and a message for each thing that is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.content import NO_TIME, ContentColumn, ContentOptions, content_options, read_content
from data.items import read_items
from recsys.errors import BadInput

MINUTE_MS = 60_000


def written(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table({"item_id": ["a", "b", "c"], **columns}), path)
    return path


def column(tmp_path: Path, values: Any, kind: str = "") -> ContentColumn:
    items = read_items(written(tmp_path / "items.parquet", {"x": values}), "item_id")
    return read_content(items, "item_id", ContentOptions((f"x{kind}",))).columns[0]


def refused(tmp_path: Path, columns: dict[str, Any], *names: str, vectors: str = "") -> str:
    items = read_items(written(tmp_path / "items.parquet", columns), "item_id")
    options = ContentOptions(names, (vectors,) if vectors else ())
    with pytest.raises(BadInput) as caught:
        read_content(items, "item_id", options)
    return str(caught.value)


def vectors(tmp_path: Path, values: Any) -> str:
    return f"image={written(tmp_path / 'vectors.parquet', {'vector': values})}"


def test_the_type_of_a_column_says_its_kind(tmp_path: Path) -> None:
    texts = column(tmp_path, ["red", None, ""])
    lists = column(tmp_path, [["red", "blue"], None, []])
    numbers = column(tmp_path, [1, None, 3])
    moments = column(tmp_path, pa.array([60, None, 120], pa.timestamp("s")))

    assert texts.texts is not None
    assert (texts.kind, texts.texts.to_pylist()) == ("categorical", [["red"], [], []])
    assert lists.texts is not None
    assert (lists.kind, lists.texts.to_pylist()) == ("multi", [["red", "blue"], [], []])
    assert numbers.numbers is not None
    assert numbers.kind == "numeric"
    assert np.array_equal(numbers.numbers, [1.0, np.nan, 3.0], equal_nan=True)
    assert moments.times_ms is not None
    assert (moments.kind, moments.times_ms.tolist()) == (
        "time",
        [MINUTE_MS, NO_TIME, 2 * MINUTE_MS],
    )


def test_a_kind_can_be_named(tmp_path: Path) -> None:
    years = column(tmp_path, [2020, 2021, None], ":categorical")

    assert years.texts is not None
    assert years.texts.to_pylist() == [["2020"], ["2021"], []]
    assert column(tmp_path, ["1.5", "", "-2e3"], ":numeric").numbers is not None


def test_a_text_file_has_no_types_and_numbers_alone_are_numeric(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,price,brand\na,1.5,4711\nb,,Nivea\n")

    found = read_content(read_items(path, "item_id"), "item_id", ContentOptions(("price", "brand")))

    assert [one.kind for one in found.columns] == ["numeric", "categorical"]


def test_bad_columns_are_refused(tmp_path: Path) -> None:
    prices = {"price": ["1.50", "2.00", "on request"], "tags": [["x"], [], []]}

    assert "2 of its 3 values are numbers. Write price:numeric or" in refused(
        tmp_path, prices, "price"
    )
    assert "row 3: 'on request' is not a number" in refused(tmp_path, prices, "price:numeric")
    assert "no column 'prize'. Did you mean 'price'?" in refused(tmp_path, prices, "prize")
    assert "'colour' is no kind of content" in refused(tmp_path, prices, "price:colour")
    assert "has lists and cannot be numeric" in refused(tmp_path, prices, "tags:numeric")
    assert "has no lists and cannot be multi" in refused(tmp_path, prices, "price:multi")
    assert "'tags' is given twice" in refused(tmp_path, prices, "tags", "tags")
    commas = {"price": ["1,50", "2,00", "on request"]}
    assert "has decimal commas, as '1,50'. Write points" in refused(tmp_path, commas, "price")
    infinite = {"price": [1.0, float("inf"), 2.0]}
    assert "row 2: inf is not a number" in refused(tmp_path, infinite, "price")
    with pytest.raises(BadInput, match="Give the items file, too"):
        content_options(["price"], [], given=False)


def test_vectors_are_found_by_item(tmp_path: Path) -> None:
    items = read_items(written(tmp_path / "items.parquet", {"n": [1, 2, 3]}), "item_id")
    named = vectors(tmp_path, [[1.0, 2.0], None, [3.0, 4.0]])

    (found,) = read_content(items, "item_id", ContentOptions((), (named,))).columns

    assert found.matrix is not None
    assert found.rows is not None
    assert found.matrix.tolist() == [[1, 2], [3, 4]]
    assert found.rows.tolist() == [0, -1, 1]


def test_bad_vectors_are_refused(tmp_path: Path) -> None:
    n = {"n": [1, 2, 3]}
    other_length = vectors(tmp_path, [[1.0, 2.0], [1.0], [3.0, 4.0]])
    assert "vector of item 'b' has 1 numbers, that of 'a' 2" in refused(
        tmp_path, n, vectors=other_length
    )
    not_finite = vectors(tmp_path, [[1.0, 2.0], [1.0, float("nan")], [3.0, 4.0]])
    assert "vector of item 'b' has NaN or infinite" in refused(tmp_path, n, vectors=not_finite)
    assert "must be NAME=FILE" in refused(tmp_path, n, vectors="vectors.parquet")
    no_list = vectors(tmp_path, [1.0, 2.0, 3.0])
    assert "one column of lists of numbers" in refused(tmp_path, n, vectors=no_list)
    names = {"image": ["x", "y", "z"]}
    twice = vectors(tmp_path, [[1.0], [2.0], [3.0]])
    assert "'image' is given twice" in refused(tmp_path, names, "image", vectors=twice)
