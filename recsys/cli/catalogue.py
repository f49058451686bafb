"""Commands of the live catalogue: `recsys catalogue push`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recsys.console import open_console
from recsys.errors import BadInput

if TYPE_CHECKING:
    import pyarrow as pa

    from data.files import TextFormat
    from data.items import ItemsTable
    from recsys.client.http import ItemParams
    from recsys.live.entry import ItemEntry

TRUE_AND_FALSE = {"true": True, "1": True, "false": False, "0": False}
AVAILABLE = "available"  # column of true and false
SHOWN_ERRORS = 10

group = typer.Typer(no_args_is_help=True, help="Change the items of a running service.")
app = typer.Typer()
app.add_typer(group, name="catalogue", rich_help_panel="Serve")


@group.callback()
def catalogue() -> None:
    """Change the items of a running service."""


@group.command()
def push(
    items: Annotated[Path, typer.Option(help="Items file: a row for each item.")],
    url: Annotated[str, typer.Option(help="The running service.")] = "http://127.0.0.1:8000",
    item_column: Annotated[str, typer.Option(help="Column of item ids.")] = "item_id",
    available_column: Annotated[
        str, typer.Option(help="Column of true and false, if the file has it.")
    ] = AVAILABLE,
    items_delimiter: Annotated[
        str | None,
        typer.Option(help="Separator of a text file.", show_default="a comma, a tab in .tsv"),
    ] = None,
    items_encoding: Annotated[str, typer.Option(help="Encoding of a text file.")] = "utf-8",
    vectors: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE: vectors of new items, as recsys train takes them."),
    ] = None,
    catalogue_key: Annotated[
        str | None, typer.Option(envvar="RECSYS_CATALOGUE_KEY", help="Catalogue key.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="File of what was sent.", show_default="the items file with .pushed"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Send every item, also what was sent before.")
    ] = False,
) -> None:
    """Send a whole items file to a running service: only what changed since the last push.

    Each column is an attribute. A push that was stopped goes on where it was. Items that are no
    longer in the file stay as they are.
    """
    from data.items import items_text, read_items
    from recsys.client import Client
    from recsys.client.push import PushRecord, push_items
    from training.progress import bar

    console = open_console(stderr=True)
    table = read_items(items, item_column, items_text(items_delimiter, items_encoding))
    given = changes_of(table, item_column, available_column, vectors or [])
    path = record or items.with_name(f"{items.name}.pushed")
    if everything:
        path.unlink(missing_ok=True)
    sent = PushRecord(path, url)
    with (
        Client(url, api_key=catalogue_key, timeout=30.0, retries=5) as client,
        bar(console, "Sending items", "items") as progress,
    ):
        try:
            result = push_items(client, given, sent, lambda done: progress(done, len(given)))
        finally:
            sent.close()
    console.print(
        f"{result.sent:,} items sent, of which {result.changed:,} changed; {result.as_before:,} "
        "are as they were sent before."
    )
    if result.not_placed:
        console.print(
            f"{result.not_placed:,} new items are in no list, because the model cannot place them "
            "by their content."
        )
    if result.errors:
        problems = [
            f"{error.item_id or 'an item'}: {error.field}: {error.message}"
            for error in result.errors
        ]
        raise BadInput("The service refused items", problems)


def changes_of(
    table: "ItemsTable", item_column: str, available_column: str, vectors: Sequence[str]
) -> "list[ItemParams]":
    """Return the change of each item of an items file; raise `BadInput`."""
    from data.content import ContentOptions, read_content

    columns = {
        name: _values(table.columns[name], is_text=table.is_text)
        for name in table.columns.column_names
        if name != available_column
    }
    available = _availability(table, available_column)
    content = read_content(table, item_column, ContentOptions((), tuple(vectors)))
    images = {
        each.name: (each.matrix.tolist(), each.rows.tolist())
        for each in content.columns
        if each.matrix is not None and each.rows is not None
    }
    changes: list[ItemParams] = []
    for row, item_id in enumerate(table.ids.to_pylist()):
        change: ItemParams = {"item_id": item_id}
        change["attributes"] = {name: values[row] for name, values in columns.items()}
        if available is not None:
            change["available"] = available[row]
        own = {n: matrix[rows[row]] for n, (matrix, rows) in images.items() if rows[row] >= 0}
        if own:
            change["vectors"] = own
        changes.append(change)
    return changes


def overlay_of(
    items: Path, item_column: str, text: "TextFormat", vectors: Sequence[str]
) -> "dict[str, ItemEntry]":
    """Return what the service stores after a push of an items file; raise `BadInput`."""
    from data.items import read_items
    from recsys.live.entry import ItemEntry

    table = read_items(items, item_column, text)
    return {
        change["item_id"]: ItemEntry(
            change.get("available", True), change.get("attributes", {}), change.get("vectors", {})
        )
        for change in changes_of(table, item_column, AVAILABLE, vectors)
    }


def _values(column: "pa.ChunkedArray", *, is_text: bool) -> list[Any]:
    """Return the values of an attribute: numbers, texts, true or false, lists, None for missing."""
    import pyarrow as pa

    from data.items import as_attribute

    kind = column.type
    if pa.types.is_floating(kind):
        return [None if value is None or value != value else value for value in column.to_pylist()]
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_list(kind):
        values: list[Any] = column.to_pylist()
        return values
    texts = as_attribute(column)
    return _as_numbers(texts) if is_text else texts


def _as_numbers(texts: list[str | None]) -> list[Any]:
    """Return numbers where a text file has nothing else and each is written as numbers are."""
    numbers = []
    for text in texts:
        try:
            number = None if text is None else float(text)
        except ValueError:
            return texts
        if number is not None and f"{number:.15g}" != text:
            return texts
        numbers.append(number)
    return numbers


def _availability(table: "ItemsTable", name: str) -> list[bool] | None:
    if name not in table.columns.column_names:
        return None
    values = table.columns[name].to_pylist()
    flags = [TRUE_AND_FALSE.get(str(value).lower()) for value in values]
    wrong = [
        f"{table.path}: item {item_id!r} has {value!r} in column {name!r}. Write true or false."
        for item_id, value, flag in zip(table.ids.to_pylist(), values, flags, strict=True)
        if flag is None
    ]
    if wrong:
        raise BadInput("The items file cannot be used", wrong)
    return [flag is True for flag in flags]
