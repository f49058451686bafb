"""Entries of the feedback streams, read as a collector does."""

from collections.abc import Sequence
from typing import Any

import redis as redis_py

from service.feedback.entries import FeedbackEntry, read_entry, stream_keys


def entries_in(redis: redis_py.Redis, keys: Sequence[str] = ()) -> list[FeedbackEntry]:
    """Return the entries of these streams, by default of all, in order within each stream."""
    found: list[FeedbackEntry] = []
    for key in keys or stream_keys():
        entries: Any = redis.xrange(key)
        found += [read_entry(fields) for _, fields in entries]
    return found
