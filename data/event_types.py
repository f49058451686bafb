"""Event types of a log: which types count, and the number of each click's type.

Types count where an option names their column and the clicks have more than one of them. They are
in alphabetical order, so that the order of rows decides nothing. A click without a text has the
number 0, as every type that a model does not know.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data.click_options import ClickOptions
from data.clicks import ClickLog
from recsys.errors import BadInput
from recsys.model.event_types import MAX_NAME_LENGTH, MAX_TYPES

MOST_NAMED = 10  # types in a message


def with_event_types(log: ClickLog, options: ClickOptions, known: Sequence[str] = ()) -> ClickLog:
    """Return the log with the types that count, as the options say; raise `BadInput`.

    known: Types of clicks before, which count, too.
    """
    if options.event_column is None:
        return log
    texts = tuple({*log.event_ids, *known})
    return replace(log, event_types=types_of(texts, options.event_column))


def types_of(texts: Sequence[str], column: str) -> tuple[str, ...]:
    """Return the types in order, none where there are not several; raise `BadInput`.

    Args:
        texts: The distinct texts of the column; an empty one is no type.
        column: Name of the column.
    """
    names = sorted(text for text in texts if text)
    problems = [
        f"{name[:20]!r}… has {len(name)} characters; a type has at most {MAX_NAME_LENGTH}. Shorten "
        "it."
        for name in names
        if len(name) > MAX_NAME_LENGTH
    ]
    if len(names) > MAX_TYPES:
        shown = ", ".join(names[:MOST_NAMED])
        problems.append(
            f"column {column!r} has {len(names):,} types, {MAX_TYPES} at most: {shown}, … Name "
            "those to keep with --events."
        )
    if problems:
        raise BadInput("The event types cannot be used", problems)
    return tuple(names) if len(names) > 1 else ()


def type_numbers(log: ClickLog) -> NDArray[np.int8]:
    """Return the number of each click's type, (clicks,) int8."""
    assert log.event is not None, "types that count are those of a column"
    return renumbered(log.event_ids, log.event_types)[log.event]


def renumbered(texts: Sequence[str], names: Sequence[str]) -> NDArray[np.int8]:
    """Return for each text its number among the names, from 1; 0 where it is none of them."""
    number = {name: at for at, name in enumerate(names, start=1)}
    return np.array([number.get(text, 0) for text in texts], dtype=np.int8)
