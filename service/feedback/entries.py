"""Entries of the feedback streams: the format in Redis, written and read.

Each shard of users has one stream, under the hash tag of the shard. The time of an entry is its
stream id, by the clock of Redis. An entry has these fields, all texts:

    click       k=c  u  s  n  d=[item_id, event_type, list_id, variant, model_id]
    impression  k=i  u  s     d=[list_id, model_id, variant, source, [item ids as answered]]
    deletion    k=d  u

`u` is the hash of the user id, as in the key of the user. `s` is the nonce of the session, empty if
the user had none, and `n` the number of the click in the session, from 1: (u, s, n) identifies a
click. `d` is JSON; what is not known is null in it. Ids of users and of events are in no entry.

The scripts of service/store write clicks and deletions, impressions.lua writes impressions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

SHARDS = 64  # of users; part of the format
CLICK, IMPRESSION, DELETION = "c", "i", "d"  # values of the field `k`


@dataclass(frozen=True, slots=True)
class ClickEntry:
    """Click that Redis has stored."""

    user: str  # 16 characters
    session: str  # 16 digits
    number: int  # of the click in the session, from 1
    item_id: str
    event_type: str | None = None
    list_id: str | None = None  # as the client sent it; not checked
    variant: str | None = None  # that served the user at the click
    model_id: str | None = None

    def fields(self) -> dict[str, str]:
        """Return the fields of the entry in Redis."""
        data = click_data(
            self.item_id, self.event_type, self.list_id, self.variant, self.model_id
        ).decode()
        return {"k": CLICK, "u": self.user, "s": self.session, "n": str(self.number), "d": data}


@dataclass(frozen=True, slots=True)
class ImpressionEntry:
    """List that was answered to a user."""

    user: str
    session: str  # empty if the user had none
    list_id: str
    model_id: str
    variant: str | None
    source: str
    items: tuple[str, ...]

    def fields(self) -> dict[str, str]:
        """Return the fields of the entry in Redis."""
        data = impression_data(
            self.list_id, self.model_id, self.variant, self.source, self.items
        ).decode()
        return {"k": IMPRESSION, "u": self.user, "s": self.session, "d": data}


@dataclass(frozen=True, slots=True)
class DeletionEntry:
    """Deletion of a user: no earlier entry of the user may be kept."""

    user: str

    def fields(self) -> dict[str, str]:
        """Return the fields of the entry in Redis."""
        return {"k": DELETION, "u": self.user}


FeedbackEntry = ClickEntry | ImpressionEntry | DeletionEntry


def stream_key(shard: int) -> str:
    """Return the key of a shard's stream; shard: 0 to 63."""
    return f"recsys:{{s{shard:02d}}}:feedback"


def stream_of(user_key: str) -> str:
    """Return the key of the stream of a user; user_key: the key of the user in Redis."""
    return user_key[: user_key.rindex(":")] + ":feedback"


def stream_keys() -> list[str]:
    """Return the keys of all streams, in the order of their shards."""
    return [stream_key(shard) for shard in range(SHARDS)]


def click_data(
    item_id: str,
    event_type: str | None,
    list_id: str | None,
    variant: str | None,
    model_id: str | None,
) -> bytes:
    """Return the field `d` of a click."""
    return orjson.dumps([item_id, event_type, list_id, variant, model_id])


def impression_data(
    list_id: str, model_id: str, variant: str | None, source: str, items: Sequence[str]
) -> bytes:
    """Return the field `d` of an impression."""
    return orjson.dumps([list_id, model_id, variant, source, items])


def read_entry(fields: Mapping[bytes, bytes]) -> FeedbackEntry:
    """Return the entry with these fields, as redis-py returns them without decoding.

    Raises:
        ValueError: if the fields are those of no entry.
    """
    try:
        return _read(fields)
    except (LookupError, TypeError, ValueError) as error:
        names = ", ".join(sorted(repr(name) for name in fields))
        raise ValueError(
            f"Fields of a feedback stream are no click, impression or deletion: {names}. "
            "Another program or a later version wrote them."
        ) from error


def _read(fields: Mapping[bytes, bytes]) -> FeedbackEntry:
    kind, user = fields[b"k"].decode(), fields[b"u"].decode()
    if kind == DELETION:
        return DeletionEntry(user)
    session, data = fields[b"s"].decode(), orjson.loads(fields[b"d"])
    if kind == CLICK:
        item_id, event_type, list_id, variant, model_id = data
        return ClickEntry(
            user,
            session,
            int(fields[b"n"]),
            _text(item_id),
            _optional(event_type),
            _optional(list_id),
            _optional(variant),
            _optional(model_id),
        )
    if kind == IMPRESSION:
        list_id, model_id, variant, source, items = data
        if not isinstance(items, list):
            raise TypeError("The items are no list.")
        return ImpressionEntry(
            user,
            session,
            _text(list_id),
            _text(model_id),
            _optional(variant),
            _text(source),
            tuple(map(_text, items)),
        )
    raise ValueError(f"Unknown kind {kind!r}.")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("The value is no text.")
    return value


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)
