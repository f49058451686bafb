"""The options every command that reads clicks shares, declared once.

A command asks for `clicks: ClickArguments`, or for the fewer `ReadArguments`; `takes_clicks`
replaces that one parameter by the fields below, so that they appear in its `--help` and arrive as
one value.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from typer import Option

PANEL = "Reading clicks"
Bundle = Annotated[Path, Option(help="Bundle folder, as written by recsys train, or a shelf.")]
Out = Annotated[Path | None, Option(help="Folder for the bundle; must be new or empty.")]
Publish = Annotated[
    Path | None,
    Option(
        "--publish",
        help="Instead of --out: a new bundle on this shelf, which services then take up.",
    ),
]


def _option(text: str, *names: str) -> Any:
    return Option(*names, help=text, rich_help_panel=PANEL)


@dataclass(frozen=True, kw_only=True)
class ReadArguments:
    """The options that say how click files are read; `training.options` gives them meaning."""

    clicks: Annotated[
        Path | None,
        _option("Click file (.csv, .tsv, .parquet), or a folder of them."),
    ] = None
    session_column: Annotated[
        str, _option("Column of the session id; 'none' cuts sessions from users.")
    ] = "session_id"
    user_column: Annotated[
        str, _option("Column of the user id; read with --session-column none.")
    ] = "user_id"
    item_column: Annotated[str, _option("Column of the item id.")] = "item_id"
    time_column: Annotated[
        str, _option("Column of the time: epoch seconds, milliseconds, or ISO 8601.")
    ] = "timestamp"
    event_column: Annotated[
        str | None,
        _option(
            "Column of the event type, for --events and to tell duplicates apart; without this "
            "option event_type, where all files have it."
        ),
    ] = None
    events: Annotated[
        list[str] | None, _option("Keep these event types only; repeat, or separate by commas.")
    ] = None
    delimiter: Annotated[str | None, _option("Separator of text files: ',' ';' '|' or tab.")] = None
    idle_gap: Annotated[
        int, _option("Seconds of silence that end a session, with --session-column none.")
    ] = 1800
    drop_duplicates: Annotated[
        bool,
        _option(
            "Remove exact duplicate rows: same session or user, item, time and event.",
            "--drop-duplicates",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class ClickArguments(ReadArguments):
    """The same and more: which sessions and items are left out, and what is tested on."""

    clicks: Annotated[Path, Option(help="Click file (.csv, .tsv, .parquet), or a folder of them.")]
    min_length: Annotated[int, _option("Drop sessions of fewer clicks.")] = 2
    min_support: Annotated[int, _option("Drop items clicked less often in training.")] = 1
    collapse: Annotated[
        bool, _option("Count consecutive clicks on one item as one.", "--collapse")
    ] = False
    split_column: Annotated[
        str | None, _option("Column that says train, valid or test; else split by time.")
    ] = None
    test_days: Annotated[float | None, _option("Test on the sessions of the last N days.")] = None
    test_fraction: Annotated[float, _option("Test on this last share of the sessions.")] = 0.1


def takes_clicks(command: Callable[..., None]) -> Callable[..., None]:
    """Spread the command's `clicks` parameter into the fields of its type."""
    own_hints = get_type_hints(command, include_extras=True)
    kind: type[ReadArguments] = own_hints["clicks"]
    hints = get_type_hints(kind, include_extras=True)
    spread = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty
            if field.default is dataclasses.MISSING
            else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]
    own = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=own_hints[p.name])
        for p in inspect.signature(command).parameters.values()
        if p.name != "clicks"
    ]
    names = {parameter.name for parameter in spread}

    @functools.wraps(command)
    def spreading(**arguments: Any) -> None:
        typed = {name: arguments.pop(name) for name in names}
        command(clicks=kind(**typed), **arguments)

    del spreading.__wrapped__  # typer would read its signature
    first, *others = spread
    spreading.__signature__ = inspect.Signature([first, *own, *others])  # type: ignore[attr-defined]
    spreading.__annotations__ = {p.name: p.annotation for p in (first, *own, *others)}
    return spreading
