"""DataFrames as input: they become Parquet files, so that the code that reads files checks them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pandas import DataFrame

from data.click_options import EVENT_COLUMN, ClickOptions
from data.schema import missing_column
from data.sources.databases import Query, as_source, export
from recsys.errors import BadInput


def with_clicks(options: ClickOptions, clicks: DataFrame | str | Path) -> ClickOptions:
    """Return the options with the path of the clicks.

    A DataFrame, and the rows of a query, are written to the path of the options.

    Raises:
        BadInput: the DataFrame lacks a column, or cannot become a file.
    """
    if isinstance(clicks, str | Path):
        path = as_source(clicks)
        if isinstance(path, Query):
            assert isinstance(options.path, Path), "rows become a file of this machine"
            export(path, options.path)
            return options
        return replace(options, path=path.expanduser() if isinstance(path, Path) else path)
    wanted = options.columns()
    frame = _checked(clicks, "The clicks", wanted)
    present = list(frame.columns)
    missing = [name for name in wanted if name not in present]
    if missing:
        problems = [missing_column(name, present, options.option_of(name)) for name in missing]
        raise BadInput("The clicks cannot be used", [f"the DataFrame: {p}" for p in problems])
    names = dict.fromkeys([*wanted, *({EVENT_COLUMN} & set(present))])
    assert isinstance(options.path, Path), "a DataFrame becomes a file of this machine"
    _write(frame[list(names)], options.path, "The clicks")
    return options


def items_path(items: DataFrame | str | Path | None, item: str, folder: Path) -> Path | None:
    """Return the path of the items, if there are any; a DataFrame is written to the folder.

    Raises:
        BadInput: the DataFrame cannot become a file.
    """
    if items is None:
        return None
    if isinstance(items, str | Path):
        return Path(items).expanduser()
    path = folder / "items.parquet"
    _write(_checked(items, "The items", [item]), path, "The items")
    return path


def vectors_paths(
    vectors: Mapping[str, DataFrame | str | Path] | None, item: str, folder: Path
) -> list[str]:
    """Return NAME=FILE for each kind of vectors; a DataFrame is written to the folder.

    Raises:
        BadInput: a DataFrame cannot become a file.
    """
    named = []
    for number, (name, given) in enumerate((vectors or {}).items()):
        path: str | Path | DataFrame = given
        if not isinstance(given, str | Path):
            path = folder / f"vectors-{number}.parquet"
            _write(_checked(given, "The vectors", [item]), path, "The vectors")
        named.append(f"{name}={path}")
    return named


def _checked(given: object, what: str, wanted: Sequence[str]) -> DataFrame:
    """Return a DataFrame with texts as names; an index of a wanted name becomes a column."""
    if not isinstance(given, DataFrame):
        raise BadInput(
            f"{what} cannot be used",
            [f"got {type(given).__name__}. Give a DataFrame, or the path of a file or folder."],
        )
    frame = given.rename(columns=str)
    levels = [name for name in frame.index.names if name in wanted and name not in frame.columns]
    return frame.reset_index(levels) if levels else frame


def _write(frame: DataFrame, path: Path, what: str) -> None:
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise BadInput(
            f"{what} cannot be used",
            [f"the DataFrame: two columns are called {twice[0]!r}. Rename one of them."],
        )
    try:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    except (pa.ArrowException, ValueError, TypeError) as failed:
        raise BadInput(
            f"{what} cannot be used",
            [f"the DataFrame cannot become a table ({failed}). Give each column one type."],
        ) from failed
