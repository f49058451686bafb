"""Reading of an items file: one row for each item, one attribute for each further column."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from data.files import click_files, mixed_types
from data.schema import as_texts, bad_ids
from recsys.catalogue.catalogue import COUNT_COLUMN, ID_COLUMN
from recsys.errors import BadInput

RESERVED = (ID_COLUMN, COUNT_COLUMN)  # columns of the catalogue


def read_attributes(
    path: Path, item_column: str, item_ids: Sequence[str], delimiter: str | None = None
) -> dict[str, list[str | None]]:
    """Return attribute → a text for each of `item_ids`, None where the file has none."""
    table = _table(path, item_column, delimiter)
    ids = as_texts(table[item_column].combine_chunks())
    problems = [f"{path}: {bad}" for bad in bad_ids(item_column, ids, 1)]
    duplicated = pc.value_counts(ids).filter(pc.greater(pc.value_counts(ids).field("counts"), 1))
    problems += [
        f"{path}: item {v.as_py()!r} has several rows. Keep one of them."
        for v in duplicated.field("values")
    ]
    names = [name for name in table.column_names if name != item_column]
    problems += [
        f"{path}: a column cannot be called {name!r}; rename it."
        for name in names
        if name in RESERVED
    ]
    texts = {}
    for name in names:
        try:
            texts[name] = _texts(table[name])
        except pa.ArrowException as broken:
            problems.append(f"{path}: column {name!r} cannot become text ({broken}).")
    if problems:
        raise BadInput("The items file cannot be used", problems)
    row_of = {item_id: row for row, item_id in enumerate(ids.to_pylist())}
    rows = [row_of.get(item_id) for item_id in item_ids]
    if all(row is None for row in rows):
        raise BadInput(
            "The items file cannot be used",
            [f"{path} has {len(ids):,} items without any click. Check --item-column."],
        )
    return {name: [None if r is None else cells[r] for r in rows] for name, cells in texts.items()}


def _table(path: Path, item_column: str, delimiter: str | None) -> pa.Table:
    files = click_files(path, delimiter)
    names = files[0].columns()
    wanted = dict.fromkeys(names, "") | {item_column: "--item-column"}
    problems = [p for file in files for p in file.check_columns(wanted)]
    if not problems:
        problems = mixed_types(files, item_column)
    if problems:
        raise BadInput("The items file cannot be used", list(dict.fromkeys(problems)))
    batches = [batch for file in files for batch, _ in file.batches(names)]
    if sum(batch.num_rows for batch in batches) == 0:
        raise BadInput("The items file cannot be used", [f"{path} has a header but no items."])
    try:
        tables = [pa.Table.from_batches([batch]) for batch in batches]
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as broken:
        raise BadInput(
            "The items file cannot be used", [f"{path}: its files do not fit together ({broken})."]
        ) from broken


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """Return values as texts; 1.0 becomes 1, because gaps turn whole numbers into floats."""
    if pa.types.is_floating(column.type):
        return [None if v is None or v != v else f"{v:.15g}" for v in column.to_pylist()]
    return [value or None for value in column.cast(pa.string()).to_pylist()]
