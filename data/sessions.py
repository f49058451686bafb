"""Sessions of a click log: clicks grouped, cut and ordered by time; filters with their counts.

Clicks of a session are ordered by time, equal times by their row in the file. Sessions are ordered
by their first click; training reads them in this order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.clicks import ClickLog
from data.event_types import renumbered, type_numbers
from data.schema import SPLITS
from recsys.errors import BadInput
from recsys.model.event_types import EventTypes

MOST_DIVIDED = 100  # sessions that are named
CLICKS_AT_ONCE = 1 << 22  # counted at a time: numpy copies them as int64


class Counted(Protocol):
    """Clicks that can be counted by item."""

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Return the ids of all items of the log, ordered by code."""
        ...

    def counts(self) -> NDArray[np.int64]:
        """Return (items,) int64 clicks on each item of `item_ids`."""
        ...


@dataclass(frozen=True)
class Sessions:
    """Sessions in flat arrays: session s holds clicks offsets[s] … offsets[s+1]-1.

    items: (clicks,) int32 codes into `item_ids`; time_ms: (clicks,) int64; offsets:
    (sessions+1,) int64; split: (sessions,) int8 into `SPLITS`, or None; events: (clicks,) int8, the
    number of each click's type, from 1 in the order of `event_types`, 0 for no type or another one;
    None where types do not count.
    """

    items: NDArray[np.int32]
    time_ms: NDArray[np.int64]
    offsets: NDArray[np.int64]
    item_ids: tuple[str, ...]
    split: NDArray[np.int8] | None = None
    events: NDArray[np.int8] | None = None
    event_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.offsets[-1] == len(self.items) == len(self.time_ms), "offsets end at the clicks"
        assert self.events is None or len(self.events) == len(self.items), "a type for each click"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, session: int) -> NDArray[np.int32]:
        return self.items[self.offsets[session] : self.offsets[session + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(sessions,) int64 number of clicks in each session."""
        return np.diff(self.offsets)

    @property
    def session_of_click(self) -> NDArray[np.int64]:
        """(clicks,) int64 session of each click."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def starts_ms(self) -> NDArray[np.int64]:
        """(sessions,) int64 time of each session's first click."""
        return self.time_ms[self.offsets[:-1]]

    @property
    def next_clicks(self) -> NDArray[np.int32]:
        """(cases,) int32 items of all clicks but the first of each session, in order."""
        return self.items[self._has_click_before]

    @property
    def next_events(self) -> NDArray[np.int8] | None:
        """(cases,) int8 types of `next_clicks`."""
        return None if self.events is None else self.events[self._has_click_before]

    @property
    def _has_click_before(self) -> NDArray[np.bool_]:
        later = np.ones(len(self.items), dtype=bool)
        later[self.offsets[:-1]] = False
        return later

    @property
    def request_ms(self) -> NDArray[np.int64]:
        """(cases,) int64 time of all clicks but the last of each session, in order."""
        return np.delete(self.time_ms, self.offsets[1:] - 1)

    @property
    def is_first_on_item(self) -> NDArray[np.bool_]:
        """(clicks,) bool, whether the session has no earlier click on the item."""
        first = np.zeros(len(self.items), dtype=bool)
        pairs = self.session_of_click * (len(self.item_ids) + 1) + self.items
        first[np.unique(pairs, return_index=True)[1]] = True
        return first

    def counts(self) -> NDArray[np.int64]:
        """Return (items,) int64 clicks on each item of `item_ids`."""
        counts = np.zeros(len(self.item_ids), dtype=np.int64)
        for start in range(0, len(self.items), CLICKS_AT_ONCE):
            part = self.items[start : start + CLICKS_AT_ONCE]
            counts += np.bincount(part, minlength=len(counts))
        return counts

    def length_counts(self) -> NDArray[np.int64]:
        """Return (longest + 1,) int64, the number of sessions of each length from 0."""
        counts = np.zeros(0, dtype=np.int64)
        for start in range(0, len(self), CLICKS_AT_ONCE):
            lengths = np.diff(self.offsets[start : start + CLICKS_AT_ONCE + 1])
            counts = np.pad(counts, (0, max(int(lengths.max()) + 1 - len(counts), 0)))
            counts += np.bincount(lengths, minlength=len(counts))
        return counts

    def at_places_by_length(self, places: Sequence[int]) -> list[int]:
        """Return the sessions at these places in the order of length, then of the log."""
        ends = np.cumsum(self.length_counts())
        found = []
        for place in places:
            length = int(np.searchsorted(ends, place, side="right"))
            left = place - (int(ends[length - 1]) if length else 0)  # sessions of this length
            for start in range(0, len(self), CLICKS_AT_ONCE):
                lengths = np.diff(self.offsets[start : start + CLICKS_AT_ONCE + 1])
                same = np.flatnonzero(lengths == length)
                if left < len(same):
                    found.append(start + int(same[left]))
                    break
                left -= len(same)
        return found

    def by_time(self) -> list[tuple[int, str]]:
        """Return (session, item id) of every click, ordered by time across sessions."""
        order = np.argsort(self.time_ms, kind="stable")
        sessions, items = self.session_of_click[order].tolist(), self.items[order].tolist()
        return [(s, self.item_ids[item]) for s, item in zip(sessions, items, strict=True)]

    def keep_clicks(self, keep: NDArray[np.bool_]) -> "Sessions":
        """Return the sessions with only these clicks, without empty sessions."""
        lengths = np.bincount(self.session_of_click[keep], minlength=len(self))
        non_empty = lengths > 0
        return Sessions(
            items=self.items[keep],
            time_ms=self.time_ms[keep],
            offsets=np.concatenate([[0], np.cumsum(lengths[non_empty])]).astype(np.int64),
            item_ids=self.item_ids,
            split=None if self.split is None else self.split[non_empty],
            events=None if self.events is None else self.events[keep],
            event_types=self.event_types,
        )

    def keep_sessions(self, keep: NDArray[np.bool_]) -> "Sessions":
        """Return only these sessions, in the same order."""
        return self.keep_clicks(np.repeat(keep, self.lengths))

    def part(self, first: int, last: int) -> "Sessions":
        """Return the sessions `first` … `last`-1, without a copy of their clicks."""
        offsets = self.offsets[first : last + 1]
        clicks = slice(offsets[0], offsets[-1])
        return Sessions(
            items=self.items[clicks],
            time_ms=self.time_ms[clicks],
            offsets=offsets - offsets[0],
            item_ids=self.item_ids,
            split=None if self.split is None else self.split[first:last],
            events=None if self.events is None else self.events[clicks],
            event_types=self.event_types,
        )


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """Numbers of sessions, clicks and items after one step of the preparation."""

    step: str
    sessions: int
    clicks: int
    items: int


def count_sessions(step: str, sessions: Sessions) -> SessionCounts:
    """Return the counts under the name of the step."""
    items = int(np.count_nonzero(sessions.counts()))
    return SessionCounts(step, len(sessions), len(sessions.items), items)


@dataclass(frozen=True)
class _Grouping:
    """Clicks of a log grouped by session: `order` are their rows, `starts` where sessions begin."""

    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, log: ClickLog, idle_gap_seconds: int | None) -> "_Grouping":
        order = np.lexsort((log.time_ms, log.group))  # stable: equal times stay as in the file
        group = log.group[order]
        begins = np.ones(len(order), dtype=bool)
        begins[1:] = group[1:] != group[:-1]
        if idle_gap_seconds is not None:
            begins[1:] |= np.diff(log.time_ms[order]) > idle_gap_seconds * 1000
        return cls(order, np.flatnonzero(begins))


def sessionise(log: ClickLog, idle_gap_seconds: int | None) -> Sessions:
    """Group clicks by session, or cut the clicks of a user at pauses longer than the gap.

    idle_gap_seconds: None where `log.group` already is the session.
    """
    return sessionise_with_rows(log, idle_gap_seconds)[0]


def sessionise_with_rows(
    log: ClickLog, idle_gap_seconds: int | None
) -> tuple[Sessions, NDArray[np.int64]]:
    """Return the sessions, and for each of them the first row of the log that belongs to it.

    Start time and first row order the sessions, also those of several logs.
    """
    grouping = _Grouping.of(log, idle_gap_seconds)
    order, starts = grouping.order, grouping.starts
    if log.split is not None:
        refuse_divided([log.group_ids[log.group[row]] for row in _divided(log.split, grouping)])
    sessions = Sessions(
        items=log.item[order],
        time_ms=log.time_ms[order],
        offsets=np.append(starts, len(order)).astype(np.int64),
        item_ids=log.item_ids,
        split=None if log.split is None else log.split[order[starts]],
        events=type_numbers(log)[order] if log.event_types else None,
        event_types=log.event_types,
    )
    first_rows = np.minimum.reduceat(order, starts)
    by_start = np.lexsort((first_rows, sessions.starts_ms))
    return _reordered(sessions, by_start), first_rows[by_start]


def divided_sessions(log: ClickLog, idle_gap_seconds: int | None) -> list[int]:
    """Return one row of each session that the split column divides, ordered by group and time."""
    return [] if log.split is None else _divided(log.split, _Grouping.of(log, idle_gap_seconds))


def refuse_divided(ids: Sequence[str]) -> None:
    """Raise `BadInput` with these sessions, if there are any."""
    if ids:
        raise BadInput(
            "The split column divides sessions",
            [f"session {i!r} has clicks of more than one of {', '.join(SPLITS)}." for i in ids],
        )


def _divided(split: NDArray[np.int8], grouping: _Grouping) -> list[int]:
    """Return a row of each divided session, at most 100."""
    labels = split[grouping.order]
    lowest = np.minimum.reduceat(labels, grouping.starts)
    divided = np.flatnonzero(lowest != np.maximum.reduceat(labels, grouping.starts))
    rows: list[int] = grouping.order[grouping.starts[divided[:MOST_DIVIDED]]].tolist()
    return rows


def _reordered(sessions: Sessions, order: NDArray[np.int64]) -> Sessions:
    lengths = sessions.lengths[order]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    clicks = np.arange(len(sessions.items)) + np.repeat(
        sessions.offsets[:-1][order] - offsets[:-1], lengths
    )
    return Sessions(
        items=sessions.items[clicks],
        time_ms=sessions.time_ms[clicks],
        offsets=offsets,
        item_ids=sessions.item_ids,
        split=None if sessions.split is None else sessions.split[order],
        events=None if sessions.events is None else sessions.events[clicks],
        event_types=sessions.event_types,
    )


def joined(parts: Sequence[Sessions]) -> Sessions:
    """Return the sessions of at least one part, one part after the other."""
    lengths = np.concatenate([part.lengths for part in parts])
    labels = [part.split for part in parts if part.split is not None]
    events = [part.events for part in parts if part.events is not None]
    return Sessions(
        items=np.concatenate([part.items for part in parts]),
        time_ms=np.concatenate([part.time_ms for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item_ids=parts[0].item_ids,
        split=np.concatenate(labels) if labels else None,
        events=np.concatenate(events) if events else None,
        event_types=parts[0].event_types,
    )


def known_items(sessions: Counted) -> tuple[str, ...]:
    """Return the ids of items with at least one click, ordered by code."""
    return tuple(sessions.item_ids[code] for code in np.flatnonzero(sessions.counts()).tolist())


def indices_of(codes: Sequence[str], item_ids: Sequence[str]) -> NDArray[np.int32]:
    """Return the index into `item_ids` of each id in `codes`, -1 where it is missing."""
    index = {item_id: at for at, item_id in enumerate(item_ids)}
    return np.fromiter((index.get(item_id, -1) for item_id in codes), np.int32, len(codes))


def reindex(sessions: Sessions, item_ids: Sequence[str]) -> Sessions:
    """Return the sessions with items as indices into `item_ids`, -1 for other items."""
    items = indices_of(sessions.item_ids, item_ids)[sessions.items]
    return replace(sessions, items=items, item_ids=tuple(item_ids))


def typed(sessions: Sessions, types: EventTypes) -> Sessions:
    """Return the sessions with the numbers that a model has for the types of their clicks.

    A click without a type has the model's default type; for a model without types, none has one.
    """
    if types.count == 1:
        return replace(sessions, events=None, event_types=())
    if sessions.events is None:
        events = np.full(len(sessions.items), types.numbers[None], dtype=np.int8)
        return replace(sessions, events=events, event_types=tuple(types.names))
    if sessions.event_types == types.names and sessions.events.min(initial=1) > 0:
        return sessions
    number = renumbered(sessions.event_types, types.names)
    events = np.array([types.numbers[None], *number], dtype=np.int8)[sessions.events]
    return replace(sessions, events=events, event_types=tuple(types.names))


def retyped(sessions: Sessions, names: Sequence[str]) -> Sessions:
    """Return the sessions with the numbers of these types; the types they have are among them."""
    if sessions.events is None or sessions.event_types == tuple(names):
        return sessions
    number = np.append(np.int8(0), renumbered(sessions.event_types, names))
    return replace(sessions, events=number[sessions.events], event_types=tuple(names))


def coded(sessions: Sessions, types: EventTypes) -> Sessions:
    """Return the sessions with codes (`recsys/model/event_types.py`) instead of item indices."""
    sessions = typed(sessions, types)
    if sessions.events is None:
        return sessions
    return replace(sessions, items=sessions.items * np.int32(types.count) + sessions.events)


def collapse_repeats(sessions: Sessions) -> Sessions:
    """Keep only the first of consecutive clicks on one item of one type, where types count."""
    new = np.ones(len(sessions.items), dtype=bool)
    new[1:] = sessions.items[1:] != sessions.items[:-1]
    if sessions.events is not None:
        new[1:] |= sessions.events[1:] != sessions.events[:-1]
    new[sessions.offsets[:-1]] = True
    return sessions.keep_clicks(new)


def filter_to_fixed_point(
    sessions: Sessions, *, min_length: int, min_support: int
) -> tuple[Sessions, Sequence[SessionCounts]]:
    """Drop short sessions and rare items until none is left; return the counts of each round."""
    rounds: list[SessionCounts] = []
    while len(sessions):
        before = len(sessions.items)
        sessions = sessions.keep_sessions(sessions.lengths >= min_length)
        if len(sessions.items) < before:
            rounds.append(count_sessions(f"sessions of at least {min_length} clicks", sessions))
        middle = len(sessions.items)
        sessions = sessions.keep_clicks((sessions.counts() >= min_support)[sessions.items])
        if len(sessions.items) < middle:
            rounds.append(count_sessions(f"items of at least {min_support} clicks", sessions))
        if len(sessions.items) == before:
            break
    return sessions, rounds
