"""Options that say how click files are read, filtered and split.

One dataclass serves Python and the command line: each field carries the help text of its option.
This module loads no pandas, so that `--help` is quick.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from data.sources.object_stores import Url
from recsys.errors import BadInput

EVENT_COLUMN = "event_type"  # default name of the column of event types
TAB = ("tab", "\\t")  # as a delimiter
FROM_USERS = "none"  # as the session column: cut sessions from the clicks of each user


@dataclass(frozen=True, slots=True)
class OptionHelp:
    """Help text of a command-line option, with its name where the field has another one."""

    text: str
    name: str = ""
    reading: bool = True  # False: it filters or splits the sessions that were read


@dataclass(frozen=True, slots=True)
class ClickOptions:
    """Options for reading, filtering and splitting click files.

    Raises:
        BadInput: with every option that cannot be used.
    """

    path: Annotated[
        Path | Url,
        OptionHelp(
            "Click file (.csv, .tsv, .jsonl, .parquet), a folder, a pattern, s3://…, or a query: "
            "postgresql://…?query=SELECT….",
            "--clicks",
        ),
    ]
    session_column: Annotated[
        str, OptionHelp("Column of the session id; 'none' cuts sessions from users.")
    ] = "session_id"
    user_column: Annotated[
        str, OptionHelp("Column of the user id; read with --session-column none.")
    ] = "user_id"
    item_column: Annotated[str, OptionHelp("Column of the item id.")] = "item_id"
    time_column: Annotated[
        str, OptionHelp("Column of the time: since 1970 in s, ms, µs or ns, or ISO 8601.")
    ] = "timestamp"
    time_format: Annotated[
        str | None,
        OptionHelp("How times are written, if otherwise: '%d.%m.%Y %H:%M:%S'; without %z in UTC."),
    ] = None
    event_column: Annotated[
        str | None,
        OptionHelp(
            "Column of the event type: the model learns several types, and --events chooses. "
            "Without this option, event_type tells duplicates apart where all files have it."
        ),
    ] = None
    events: Annotated[
        Sequence[str], OptionHelp("Keep these event types only; repeat, or separate by commas.")
    ] = ()
    delimiter: Annotated[str | None, OptionHelp("Separator of text files: ',' ';' '|' or tab.")] = (
        None
    )
    encoding: Annotated[
        str, OptionHelp("Encoding of text files, such as latin-1, cp1252 or utf-16.")
    ] = "utf-8"
    skip_bad_rows: Annotated[
        int, OptionHelp("Leave out up to N rows that cannot be used, and list them in a file.")
    ] = 0
    skipped_rows: Annotated[Path, OptionHelp("File that lists the rows that were left out.")] = (
        Path("skipped-rows.csv")
    )
    idle_gap_seconds: Annotated[
        int,
        OptionHelp(
            "Seconds without a click that end a session, with --session-column none.", "--idle-gap"
        ),
    ] = 1800
    drop_duplicates: Annotated[
        bool,
        OptionHelp(
            "Remove exact duplicate rows: same session or user, item, time and event.",
            "--drop-duplicates/--keep-duplicates",
        ),
    ] = False
    min_length: Annotated[int, OptionHelp("Drop sessions of fewer clicks.", reading=False)] = 2
    min_support: Annotated[
        int, OptionHelp("Drop items clicked less often in training.", reading=False)
    ] = 1
    collapse: Annotated[
        bool, OptionHelp("Count consecutive clicks on one item as one.", reading=False)
    ] = False
    split_column: Annotated[
        str | None,
        OptionHelp("Column that says train, valid or test; else split by time.", reading=False),
    ] = None
    test_days: Annotated[
        float | None, OptionHelp("Test on the sessions of the last N days.", reading=False)
    ] = None
    test_fraction: Annotated[
        float, OptionHelp("Test on this last share of the sessions.", reading=False)
    ] = 0.1

    def __post_init__(self) -> None:
        names = self.columns()
        fraction, days, delimiter = self.test_fraction, self.test_days, self.delimiter
        rules = [
            (
                "--min-length must be at least 2",
                _is_number(self.min_length) and self.min_length >= 2,
                self.min_length,
                "Give a whole number",
            ),
            (
                "--min-support must be at least 1",
                _is_number(self.min_support) and self.min_support >= 1,
                self.min_support,
                "Give a whole number",
            ),
            (
                "--idle-gap must be at least 1 second",
                _is_number(self.idle_gap_seconds) and self.idle_gap_seconds >= 1,
                self.idle_gap_seconds,
                "Give a number of seconds",
            ),
            (
                "--test-fraction must be above 0 and below 1",
                _is_number(fraction) and 0 < fraction < 1,
                fraction,
                "Give a number",
            ),
            (
                "--test-days must be above 0 and finite",
                days is None or (_is_number(days) and 0 < days < math.inf),
                days,
                "Give a number of days",
            ),
            (
                "--delimiter must be one character, or tab",
                is_delimiter(delimiter),
                delimiter,
                "Give the character between two columns",
            ),
            (
                "--encoding must be one that Python knows",
                is_encoding(self.encoding),
                self.encoding,
                "Give a name like latin-1 or utf-16",
            ),
            (
                "--skip-bad-rows must be at least 0",
                _is_number(self.skip_bad_rows) and self.skip_bad_rows >= 0,
                self.skip_bad_rows,
                "Give a whole number",
            ),
            (
                "column names must differ and not be empty",
                len(set(names)) == len(names) and "" not in names,
                names,
                "Give each column its own name",
            ),
        ]
        problems = [
            f"{rule}, got {value!r}. {advice}." for rule, holds, value, advice in rules if not holds
        ]
        if problems:
            raise BadInput("The options cannot be used", problems)

    def reading(self) -> dict[str, Any]:
        """Return the options of reading that are not the default, as values of JSON."""
        values = {name: getattr(self, name) for name in reading_fields()}
        defaults = {f.name: f.default for f in fields(self)}
        return {
            name: list(value) if name == "events" else value
            for name, value in values.items()
            if value != defaults[name]
        }

    def columns(self) -> list[str]:
        """Return the names of the columns that every file must have."""
        names = [self.visitor_column, self.item_column, self.time_column]
        optional = (self.required_event_column, self.split_column)
        return names + [name for name in optional if name is not None]

    def option_of(self, column: str) -> str:
        """Return the command-line option that names a column."""
        named = {getattr(self, f.name): f.name for f in fields(self) if f.name.endswith("_column")}
        return "--" + named.get(column, "event_column").replace("_", "-")

    @property
    def visitor_column(self) -> str:
        """Name of the column whose ids group the clicks: of sessions, or of users."""
        return self.user_column if self.cuts_sessions else self.session_column

    @property
    def cuts_sessions(self) -> bool:
        """True where sessions are cut from the clicks of each user."""
        return self.session_column == FROM_USERS

    @property
    def session_gap_seconds(self) -> int | None:
        """Seconds without a click that end a session; None where a column names the sessions."""
        return self.idle_gap_seconds if self.cuts_sessions else None

    @property
    def required_event_column(self) -> str | None:
        """Name of the event column; None where no option needs one."""
        if self.event_column is None and self.events:
            return EVENT_COLUMN
        return self.event_column


def reading_fields() -> dict[str, OptionHelp]:
    """Return the fields of `ClickOptions` that say how a log is read, with their help texts."""
    hints = get_type_hints(ClickOptions, include_extras=True)
    helps = {f.name: get_args(hints[f.name])[1] for f in fields(ClickOptions)}
    own = ("path", "skipped_rows")  # of one run, and not of the log
    return {name: text for name, text in helps.items() if text.reading and name not in own}


def remembered_reading(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of reading of a training, from the manifest of its bundle.

    A manifest may hold anything: what cannot be a value of an option is left out.
    """
    found = training.get("reading")
    if not isinstance(found, dict):
        return {}
    options = {name: found[name] for name in reading_fields() if name in found}
    usable = {}
    for name, value in options.items():
        default: object = getattr(ClickOptions(Path()), name)
        kind = list if name == "events" else str if default is None else type(default)
        if isinstance(value, kind):
            usable[name] = tuple(map(str, value)) if isinstance(value, list) else value
    return usable


def is_delimiter(text: object) -> bool:
    """Return whether a text can be a separator; None stands for that of the file's ending."""
    if text is None or text in TAB:
        return True
    return isinstance(text, str) and len(text) == 1


def is_encoding(name: object) -> bool:
    """Return whether Python knows an encoding of this name."""
    try:
        return isinstance(name, str) and "".encode(name) is not None
    except LookupError:
        return False


def _is_number(value: object) -> bool:
    """Return whether the Python API was given a number and no text."""
    return isinstance(value, Real)
