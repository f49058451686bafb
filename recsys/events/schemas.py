"""Kinds of events and their columns, which the collector fills and an events folder holds."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

CLICKS, IMPRESSIONS, DELETIONS, REJECTED = "clicks", "impressions", "deletions", "rejected"
Columns = Mapping[str, Sequence[Any]]  # name → value of each row
SCHEMAS = {
    CLICKS: pa.schema(
        [
            ("entry", pa.string()),  # shard-ms-sequence: the id of the entry in Redis
            ("timestamp", pa.float64()),  # seconds since 1970
            ("user_id", pa.string()),  # hashed
            ("session_id", pa.string()),  # user and session of the user
            ("click", pa.int64()),  # number in the session, from 1
            ("item_id", pa.string()),
            ("event_type", pa.string()),
            ("list_id", pa.string()),
            ("variant", pa.string()),
            ("model_id", pa.string()),
        ]
    ),
    IMPRESSIONS: pa.schema(
        [
            ("entry", pa.string()),
            ("timestamp", pa.float64()),
            ("user_id", pa.string()),
            ("session_id", pa.string()),  # null if the user had no session
            ("list_id", pa.string()),
            ("model_id", pa.string()),
            ("variant", pa.string()),
            ("source", pa.string()),
            ("items", pa.list_(pa.string())),  # as shown
        ]
    ),
    DELETIONS: pa.schema(
        [("entry", pa.string()), ("timestamp", pa.float64()), ("user_id", pa.string())]
    ),
    REJECTED: pa.schema(
        [
            ("entry", pa.string()),
            ("timestamp", pa.float64()),
            ("user_id", pa.string()),  # null if it is not known
            ("problem", pa.string()),
            ("fields", pa.string()),  # as JSON
        ]
    ),
}
