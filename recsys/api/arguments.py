"""Arguments of the Python API: checked, and named in messages as the caller knows them."""

import inspect
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from recsys.errors import BadInput, Interrupted, Problems

if TYPE_CHECKING:
    from pandas import DataFrame

    Clicks: TypeAlias = DataFrame | str | Path

# option of the command line → argument of `fit`, if the names differ in more than dashes
OTHER_NAMES = {
    "session_column": "session",
    "user_column": "user",
    "item_column": "item",
    "time_column": "time",
    "event_column": "event",
    "idle_gap": "idle_gap_seconds",
    "set": "settings",
}


def full_path(path: str | Path, what: str) -> Path:
    """Return an absolute path; raise `BadInput` if the argument `what` is no path."""
    if not isinstance(path, str | os.PathLike):
        raise BadInput(
            f"{what} cannot be used", [f"it takes a path, got {path!r}. Give the path of a folder."]
        )
    return Path(path).expanduser().resolve()


def check_list(k: int, unknown: str = "raise") -> None:
    """Raise `BadInput` if no list can have this length, or `unknown` is neither of its words."""
    problems = []
    if not isinstance(k, Integral) or k < 1:
        problems.append(f"k must be at least 1, got {k!r}. Give a whole number.")
    if unknown not in ("raise", "ignore"):
        problems.append(f"unknown is 'raise' or 'ignore', got {unknown!r}. Give one of them.")
    if problems:
        raise BadInput("The list cannot be made", problems)


def texts_of(given: object, what: str) -> list[str]:
    """Return a list of texts; one text alone is a list of one."""
    one = isinstance(given, str) or not isinstance(given, Iterable)
    values = [given] if one else list(cast("Iterable[object]", given))
    for value in values:
        if not isinstance(value, str):
            raise BadInput(
                f"{what} cannot be used", [f"it takes texts, got {value!r}. Write {str(value)!r}."]
            )
    return cast("list[str]", values)


def as_override(name: str, value: object) -> str:
    """Return a setting as `--set` writes it."""
    return f"{name}={value!r}" if isinstance(value, str) else f"{name}={value}"


def sessions_of(items: Sequence[str] | Sequence[Sequence[str]]) -> tuple[list[Sequence[str]], bool]:
    """Return a list of sessions, and whether several were given.

    Raises:
        BadInput: `items` is one text or a table, is no list, or mixes ids and lists.
    """
    if not isinstance(items, Iterable) or hasattr(items, "columns"):  # list(table): its columns
        raise BadInput(
            "The session cannot be used",
            [
                f"got {type(items).__name__}. Give a list of item ids, or a list of such lists; "
                "of a DataFrame the column of the items."
            ],
        )
    listed = [items] if isinstance(items, str) else list(items)
    texts = [isinstance(item, str) for item in listed]
    if isinstance(items, str) or len(set(texts)) > 1:
        raise BadInput(
            "The session cannot be used",
            [f"got {items!r}. Give a list of item ids, or a list of such lists."],
        )
    if all(texts):
        return [cast("Sequence[str]", listed)], False
    sessions: list[Sequence[str]] = [
        list(session) if isinstance(session, Iterable) else [session] for session in listed
    ]
    wrong = [item for session in sessions for item in session if not isinstance(item, str)]
    if wrong:
        raise BadInput(
            "The session cannot be used",
            [f"item ids are texts, got {wrong[0]!r}. Write {str(wrong[0])!r}."],
        )
    return sessions, True


def types_of(
    given: Sequence[str | None] | Sequence[Sequence[str | None]] | None,
    sessions: Sequence[Sequence[str]],
    *,
    several: bool,
) -> list[list[str | None]]:
    """Return the type of each click of each session; raise `BadInput` where the shapes differ."""
    if given is None:
        return [[None] * len(session) for session in sessions]
    types = [list(cast("Sequence[str | None]", one)) for one in (given if several else [given])]
    wanted, got = ([len(one) for one in rows] for rows in (sessions, types))
    if wanted != got:
        raise BadInput(
            "event_types cannot be used",
            [f"it has {got} types for {wanted} clicks. Give one for each, or None."],
        )
    return types


@contextmanager
def in_python_terms(folder: Path) -> Iterator[None]:
    """Raise problems of input again in the terms of this API.

    Files in `folder` were DataFrames, and `--test-fraction` is the argument `test_fraction`.
    """
    from recsys.api.training import fit  # it imports this module

    arguments = set(inspect.signature(fit).parameters)

    def argument(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        name = OTHER_NAMES.get(name, name)
        return name if name in arguments else option[0]

    def translated(text: str) -> str:
        text = re.sub(rf"{re.escape(str(folder))}/\w+\.parquet", "the DataFrame", text)
        return re.sub(r"--([a-z][a-z-]*)", argument, text)

    try:
        yield
    except Problems as wrong:
        raise type(wrong)(
            translated(wrong.heading), [translated(problem) for problem in wrong.problems]
        ) from None
    except Interrupted as stopped:
        if str(folder) not in str(stopped):
            raise Interrupted(translated(str(stopped))) from None
        raise Interrupted(
            "Training was stopped, and its temporary folder is deleted. To continue a stopped "
            "training later, give a folder with out=, and then resume=True."
        ) from None
