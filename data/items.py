"""Reading of an items file: one row for each item, one attribute for each further column."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from data.files import UTF_8, UTF_8_TEXT, TextFormat, click_files, mixed_types
from data.schema import as_texts, bad_ids
from recsys.catalogue.catalogue import COUNT_COLUMN, ID_COLUMN
from recsys.errors import BadInput

RESERVED = (ID_COLUMN, COUNT_COLUMN)  # columns of the catalogue


@dataclass(frozen=True)
class ItemsTable:
    """Rows of an items file, or of another file with one row for each item."""

    path: Path
    ids: pa.StringArray  # distinct
    columns: pa.Table  # without the ids
    is_text: bool  # a text file has no types: every column is text

    def lacks(self, clicked: Sequence[str]) -> int:
        """Return how many of the clicked items the file lacks; raise `BadInput` where it is all."""
        found = pc.is_in(pa.array(clicked, pa.string()), value_set=self.ids)
        lacking = len(found) - (pc.sum(found).as_py() or 0)
        if lacking == len(found):
            raise BadInput(
                "The items file cannot be used",
                [
                    f"{self.path} has {len(self.ids):,} items without any click. "
                    "Check --item-column."
                ],
            )
        return lacking

    def attributes(
        self, item_ids: Sequence[str], left_out: Collection[str] = ()
    ) -> dict[str, list[str | None]]:
        """Return attribute → a text for each of `item_ids`, None where the file has none.

        Args:
            item_ids: items of the catalogue.
            left_out: columns that are no attributes.

        Raises:
            BadInput: a column cannot become text.
        """
        texts, problems = {}, []
        for name in self.columns.column_names:
            if name in left_out:
                continue
            try:
                texts[name] = as_attribute(self.columns[name])
            except pa.ArrowException as broken:
                problems.append(f"{self.path}: column {name!r} cannot become text ({broken}).")
        if problems:
            raise BadInput("The items file cannot be used", problems)
        rows = pc.index_in(pa.array(item_ids, pa.string()), value_set=self.ids).to_pylist()
        return {
            name: [None if r is None else cells[r] for r in rows] for name, cells in texts.items()
        }


def items_text(delimiter: str | None, encoding: str = UTF_8) -> TextFormat:
    """Return how a text file of items is written, as the options of items say."""
    return TextFormat(delimiter, encoding, prefix="--items-")


def read_items(path: Path, item_column: str, text: TextFormat = UTF_8_TEXT) -> ItemsTable:
    """Read a file with one row for each item; raise `BadInput`."""
    files = click_files(path, text, what="items file")
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
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as broken:
        raise BadInput(
            "The items file cannot be used", [f"{path}: its files do not fit together ({broken})."]
        ) from broken
    ids = as_texts(table[item_column].combine_chunks())
    problems = [f"{path}: {bad}" for bad in bad_ids(item_column, ids, 1)]
    duplicated = pc.value_counts(ids).filter(pc.greater(pc.value_counts(ids).field("counts"), 1))
    problems += [
        f"{path}: item {v.as_py()!r} has several rows. Keep one of them."
        for v in duplicated.field("values")
    ]
    problems += [
        f"{path}: a column cannot be called {name!r}; rename it."
        for name in names
        if name != item_column and name in RESERVED
    ]
    if problems:
        raise BadInput("The items file cannot be used", problems)
    is_text = all(file.found.format == "text" for file in files)
    return ItemsTable(path, ids, table.drop_columns([item_column]), is_text)


def as_attribute(column: pa.ChunkedArray) -> list[str | None]:
    """Return values as texts; 1.0 becomes 1, because gaps turn whole numbers into floats."""
    if pa.types.is_floating(column.type):
        return [None if v is None or v != v else f"{v:.15g}" for v in column.to_pylist()]
    return [value or None for value in column.cast(pa.string()).to_pylist()]
