"""Store of the live catalogue in Redis: the changes of items, of all processes and all bundles.

Every single change has a number, so a reader fetches what changed since the last number that it
read. overlay.lua has the layout and says how a reader recognises that Redis lost a part of it. All
keys have one hash tag, so that one script can write them on a Redis Cluster, too.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import numpy as np
import orjson

from recsys.errors import StoreUnavailable
from recsys.live.entry import ItemEntry
from service.redis_client.client import RedisClient
from service.redis_client.server import RedisCall, Script
from service.store.session_store import script_source

PREFIX = "recsys:catalogue:{overlay}:"
KEYS = [PREFIX + name for name in ("version", "calls", "changes", "items", "vectors")]
_, _, _, ITEMS, VECTORS = KEYS
PAGE_ITEMS, PAGE_BYTES = 1000, 500_000  # of one read; it takes milliseconds of Redis


@dataclass(frozen=True, slots=True)
class OverlayVersion:
    """State of the live catalogue: what was changed up to a call."""

    epoch: str = ""  # random, made with the first change; empty: nothing was ever changed
    count: int = 0  # changes of single items so far
    nonce: str = ""  # random, of the last call that changed an item


@dataclass(frozen=True, slots=True)
class ItemUpdate:
    """Change of one item. What is None stays as it is."""

    item_id: str
    available: bool | None = None
    attributes: Mapping[str, object] = field(default_factory=dict)
    vectors: Mapping[str, Sequence[float]] = field(default_factory=dict)
    deletes: bool = False

    @property
    def arguments(self) -> list[str | bytes]:
        """Return the arguments of overlay_put.lua."""
        available = {None: "", True: "1", False: "0"}[self.available]
        texts = {name: orjson.dumps(value).decode() for name, value in self.attributes.items()}
        vectors = {
            name: b64encode(np.asarray(vector, "<f4").tobytes()).decode()
            for name, vector in self.vectors.items()
        }
        return [
            self.item_id,
            "x" if self.deletes else available,
            orjson.dumps(texts) if texts else "",
            orjson.dumps(vectors) if vectors else "",
        ]


@dataclass(frozen=True, slots=True)
class StoredItem:
    """Item as Redis holds it; it is parsed where it is needed."""

    item: bytes
    vectors: bytes | None

    @property
    def changed(self) -> float | None:
        """Return the time of the last change, by the clock of Redis, epoch seconds."""
        changed = _read_json(self.item).get("changed")
        return float(changed) if isinstance(changed, str) else None

    @property
    def entry(self) -> ItemEntry:
        """Return the entry; one that another program damaged is that of an unchanged item."""
        item, vectors = _read_json(self.item), _read_json(self.vectors or b"{}")
        try:
            return ItemEntry(
                item.get("available") != "0",
                {name: orjson.loads(text) for name, text in item.get("attributes", {}).items()},
                {n: np.frombuffer(b64decode(text), "<f4").tolist() for n, text in vectors.items()},
            )
        except (ValueError, TypeError, AttributeError):
            return ItemEntry()


@dataclass(frozen=True, slots=True)
class OverlayPage:
    """Items that changed after a number."""

    version: OverlayVersion  # of the whole at the time of the read
    items: Mapping[str, StoredItem]
    last: int  # number of the last change in the page

    @property
    def is_last(self) -> bool:
        """Return whether no further change was there."""
        return self.last >= self.version.count


class OverlayStore:
    """Live catalogue in Redis; each call raises `StoreUnavailable` if Redis does not answer."""

    def __init__(self, redis_client: RedisClient) -> None:
        self._redis_client = redis_client
        self._put_script = Script(script_source("overlay.lua", "overlay_put.lua"))
        self._read_script = Script(script_source("overlay.lua", "overlay_read.lua"))

    async def put(self, updates: Sequence[ItemUpdate]) -> tuple[OverlayVersion, list[bool]]:
        """Change items in one atomic step; return the version and which items were changed."""
        arguments: list[str | bytes] = [token_hex(8), token_hex(8)]
        arguments += [argument for update in updates for argument in update.arguments]
        epoch, count, nonce, *changed = await self._run(
            self._put_script.call(KEYS, arguments, repeatable=True)
        )
        version = OverlayVersion(epoch.decode(), count, nonce.decode())
        return version, [flag == 1 for flag in changed]

    async def read(self, known: OverlayVersion | None, after: int) -> OverlayPage | None:
        """Return the first page of what changed after a number.

        Args:
            known: the version that the caller read last; None if it knows nothing.
            after: the number.

        Returns:
            The page, or None if Redis does not know that version: it has lost data, and everything
            must be read again.
        """
        seen = ("0", "") if known is None else (str(known.count), known.nonce)
        arguments = [*seen, str(after), str(PAGE_ITEMS), str(PAGE_BYTES)]
        reply = await self._run(self._read_script.call(KEYS, arguments, repeatable=True))
        if reply is None:
            return None
        epoch, count, nonce, *flat = reply
        rows = list(zip(*(flat[at::4] for at in range(4)), strict=True))
        return OverlayPage(
            OverlayVersion(epoch.decode(), count, nonce.decode()),
            {item_id.decode(): StoredItem(item, vectors) for item_id, _, item, vectors in rows},
            int(rows[-1][1]) if rows else count,
        )

    async def item(self, item_id: str) -> StoredItem | None:
        """Return one item, or None if it was never changed."""
        item = await self._run(RedisCall(("HGET", ITEMS, item_id), ITEMS, repeatable=True))
        if item is None:
            return None
        vectors = await self._run(RedisCall(("HGET", VECTORS, item_id), VECTORS, repeatable=True))
        return StoredItem(item, vectors)

    async def close(self) -> None:
        """Close all connections."""
        await self._redis_client.close()

    async def _run(self, call: RedisCall) -> Any:
        (reply,) = await self._redis_client.run("catalogue", [call])
        if isinstance(reply, StoreUnavailable):
            raise reply
        return reply


def _read_json(text: bytes) -> dict[str, Any]:
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return values if isinstance(values, dict) else {}
