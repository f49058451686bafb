"""Entries of the streams as columns of the events folder: clicks, impressions and deletions.

An entry that another program wrote, or that is damaged, is kept with the reason; it stops nothing.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from recsys.events.schemas import CLICKS, DELETIONS, IMPRESSIONS, REJECTED, SCHEMAS, Columns
from service.collector.reader import RawEntry
from service.feedback.entries import ClickEntry, FeedbackEntry, ImpressionEntry, read_entry

LAST_MS = 253_402_300_799_999  # the last one that calendars represent; an id may be of any time
MAX_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """Entry of a stream that could be read."""

    shard: int
    entry_id: str  # shard-ms-sequence
    seconds: float  # since 1970
    entry: FeedbackEntry


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """Entry of a stream that is none of ours."""

    entry_id: str
    seconds: float
    problem: str
    fields: Mapping[bytes, bytes]


def parse_entries(raw: Iterable[RawEntry]) -> tuple[list[StoredEvent], list[RejectedEvent]]:
    """Return the entries as events, and those that cannot be read as rejected ones."""
    events, rejected = [], []
    for each in raw:
        entry_id = f"{each.shard:02}-{each.entry_id}"
        seconds = min(int(each.entry_id.partition("-")[0]), LAST_MS) / 1000
        values = iter(each.fields)
        fields = dict(zip(values, values, strict=True))
        try:
            entry = read_entry(fields)
            if isinstance(entry, ClickEntry) and not 0 < entry.number <= MAX_NUMBER:
                raise ValueError("The number of the click is out of range.")
        except ValueError as error:
            rejected.append(RejectedEvent(entry_id, seconds, str(error), fields))
        else:
            events.append(StoredEvent(each.shard, entry_id, seconds, entry))
    return events, rejected


def as_columns(
    events: Iterable[StoredEvent], rejected: Iterable[RejectedEvent]
) -> dict[str, Columns]:
    """Return kind → columns, without kinds that have no row."""
    batch: dict[str, dict[str, list[Any]]] = {
        kind: {name: [] for name in schema.names} for kind, schema in SCHEMAS.items()
    }
    for event in events:
        entry = event.entry
        if isinstance(entry, ClickEntry):
            columns = batch[CLICKS]
            columns["session_id"].append(f"{entry.user}-{entry.session}")
            columns["click"].append(entry.number)
            columns["item_id"].append(entry.item_id)
            columns["event_type"].append(entry.event_type)
            columns["list_id"].append(entry.list_id)
            columns["variant"].append(entry.variant)
            columns["model_id"].append(entry.model_id)
        elif isinstance(entry, ImpressionEntry):
            columns = batch[IMPRESSIONS]
            columns["session_id"].append(f"{entry.user}-{entry.session}" if entry.session else None)
            columns["list_id"].append(entry.list_id)
            columns["model_id"].append(entry.model_id)
            columns["variant"].append(entry.variant)
            columns["source"].append(entry.source)
            columns["items"].append(entry.items)
        else:
            columns = batch[DELETIONS]
        columns["entry"].append(event.entry_id)
        columns["timestamp"].append(event.seconds)
        columns["user_id"].append(entry.user)
    for each in rejected:
        columns = batch[REJECTED]
        columns["entry"].append(each.entry_id)
        columns["timestamp"].append(each.seconds)
        user = each.fields.get(b"u")
        columns["user_id"].append(None if user is None else user.decode(errors="replace"))
        columns["problem"].append(each.problem)
        texts = {_text(name): _text(value) for name, value in each.fields.items()}
        columns["fields"].append(json.dumps(texts, ensure_ascii=False))
    return {kind: columns for kind, columns in batch.items() if columns["entry"]}


def _text(value: bytes) -> str:
    """Return the bytes as a text, and escape those that are not UTF-8."""
    return value.decode(errors="backslashreplace")
