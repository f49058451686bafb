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
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from typer import Option

if TYPE_CHECKING:
    from data.prepare import ClickOptions

PANEL = "Reading clicks"
BundleOption = Annotated[
    Path, Option(help="Bundle folder, as written by recsys train, or a shelf.")
]
OutOption = Annotated[Path | None, Option(help="Folder for the bundle; must be new or empty.")]
PublishOption = Annotated[
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
    """Options that say how click files are read; `click_options` converts them."""

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


WITHOUT = "none"  # --session-column none


def click_options(typed: ClickArguments) -> "ClickOptions":
    """Return the options as `data.prepare` takes them.

    Raises:
        BadInput: with every option that cannot be used.
    """
    from data.prepare import ClickOptions  # late: it needs pandas

    return ClickOptions(
        **_reading(typed, split=typed.split_column),
        min_length=typed.min_length,
        min_support=typed.min_support,
        collapse=typed.collapse,
        test_days=typed.test_days,
        test_fraction=typed.test_fraction,
    )


def read_options(typed: ReadArguments) -> "ClickOptions":
    """Return the options of a command that neither leaves sessions out nor splits them."""
    from data.prepare import ClickOptions

    return ClickOptions(**_reading(typed))


def _reading(typed: ReadArguments, split: str | None = None) -> dict[str, Any]:
    from data.schema import EVENT_COLUMN, Columns

    events = tuple(
        event.strip() for text in typed.events or [] for event in text.split(",") if event.strip()
    )
    event = EVENT_COLUMN if typed.event_column is None and events else typed.event_column
    from_users = typed.session_column == WITHOUT
    return {
        "path": typed.clicks,
        "columns": Columns(
            session=None if from_users else typed.session_column,
            user=typed.user_column if from_users else None,
            item=typed.item_column,
            time=typed.time_column,
            event=event,
            split=split,
        ),
        "events": events,
        "delimiter": typed.delimiter,
        "idle_gap_seconds": typed.idle_gap,
        "drop_duplicates": typed.drop_duplicates,
    }
