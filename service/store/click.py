"""Click of a user, as a client sent it and as an entry of the history in Redis."""

from dataclasses import dataclass
from typing import Any

import orjson

SEPARATOR = "\x1f"  # ASCII unit separator
SEPARATOR_BYTE = SEPARATOR.encode()


@dataclass(frozen=True, slots=True)
class Click:
    """Click as a client sent it. `timestamp` is stored; it never orders or expires anything."""

    item_id: str
    event_id: str | None = None
    timestamp: float | None = None
    event_type: str | None = None
    list_id: str | None = None  # for the feedback; not in the history

    def to_entry(self) -> str:
        """Return the text that the history stores.

        It is item, timestamp and event id with `SEPARATOR` between them, without missing values at
        the end. Where an id could be mistaken for something else, it is a JSON list. With a type it
        is a JSON list, too, with the type in the fourth place: a process of an earlier version,
        which may run beside this one during an update, reads the first three values of a list.
        """
        values = [self.item_id, self.timestamp, self.event_id, self.event_type]
        while values[-1] is None:
            values.pop()
        texts = ["" if value is None else str(value) for value in values]
        is_typed = self.event_type is not None
        if is_typed or texts[0].startswith("[") or any(SEPARATOR in text for text in texts):
            return orjson.dumps(values).decode()
        return SEPARATOR.join(texts)

    @staticmethod
    def event_type_of(entry: bytes) -> str | None:
        """Return the type in an entry whose item has been read; None where it has none."""
        if not entry.startswith(b"["):
            return None
        event_type = [*orjson.loads(entry), None, None, None][3]
        return event_type if isinstance(event_type, str) else None

    @staticmethod
    def item_id_of(entry: bytes) -> str:
        """Return the item id of an entry, which is all that most requests need.

        Raises:
            ValueError: if the entry has no item id.
        """
        if entry.startswith(b"["):
            item_id = [*orjson.loads(entry), None][0]
        else:
            item_id = entry.partition(SEPARATOR_BYTE)[0].decode()
        if not item_id or not isinstance(item_id, str):
            raise ValueError("The entry has no item id.")
        return item_id

    @classmethod
    def from_entry(cls, entry: bytes) -> "Click":
        """Read an entry of the history.

        Raises:
            ValueError: if the entry is no click.
        """
        if not entry.startswith(b"["):
            item_id, timestamp, event_id, *more = [*entry.decode().split(SEPARATOR), "", ""]
            if not item_id or any(more):
                raise ValueError("The entry is no click.")
            return cls(item_id, event_id or None, float(timestamp) if timestamp else None)
        values: Any = orjson.loads(entry)
        if not values or not isinstance(values[0], str):
            raise ValueError("The entry is no click.")
        item_id, timestamp, event_id, event_type = [*values, None, None, None][:4]
        texts = isinstance(event_id, str | None) and isinstance(event_type, str | None)
        if not texts or not isinstance(timestamp, int | float | None):
            raise ValueError("The entry is no click.")
        return cls(item_id, event_id, timestamp, event_type)
