"""Reading of the feedback streams as a consumer group, and removal of what was collected.

All streams are read with one batch of commands. An entry that was read stays pending until it is
acknowledged. After a start or a failure the pending entries come first, so that an entry is read
until it is acknowledged: perhaps more than once, never not at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recsys.errors import BadInput, StoreUnavailable
from service.feedback.entries import SHARDS, stream_key
from service.redis_client.client import RedisClient
from service.redis_client.server import RedisCall

GROUP, CONSUMER = "collect", "collector"  # constant, so that a new process finds what is pending
FOLDER_KEY = "recsys:feedback:folder"  # id of the folder into which the streams are collected
COUNT = 100  # entries of one stream in one read: a reply must fit Redis's output buffer
PENDING, NEW = "0", ">"  # ids of XREADGROUP


@dataclass(frozen=True, slots=True)
class RawEntry:
    """Entry of a stream as Redis returned it; `fields` alternates names and values."""

    shard: int
    entry_id: str  # ms-sequence
    fields: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Entries that were read and are not acknowledged, those of a shard in their order."""

    entries: Sequence[RawEntry]
    ids: Mapping[int, Sequence[str]] = field(default_factory=dict)  # shard → all ids to acknowledge
    drained: bool = True  # nothing more was there


class ClaimedByOther(BadInput):
    """Streams that are collected into another folder."""

    def __init__(self, owner: str, folder_id: str) -> None:
        super().__init__(
            "The feedback of this Redis is collected into another folder",
            [
                f"its id is {owner}, not {folder_id}. Name that folder, or go on in this one with "
                "--take-over."
            ],
        )


class FeedbackReader:
    """Reader of all streams.

    Args:
        redis_client: the client; a call needs more time than one of a user.
        count: entries of one stream in one read.
    """

    def __init__(self, redis_client: RedisClient, count: int = COUNT) -> None:
        self._redis_client, self._count = redis_client, count
        self._cursors: dict[int, str] = {}  # shard → id of the next read; empty: not begun

    async def claim(self, folder_id: str, *, take_over: bool = False) -> None:
        """Note into which folder the streams are collected.

        Raises:
            ClaimedByOther: it is another folder, and `take_over` is False.
            StoreUnavailable: Redis does not answer.
        """
        owner = await self._owner()
        if owner is None or take_over:  # a full Redis refuses to write, and has to be emptied
            condition = () if take_over else ("NX",)
            await self._run(
                RedisCall(("SET", FOLDER_KEY, folder_id, *condition), FOLDER_KEY, repeatable=True)
            )
            owner = await self._owner()
        if owner is not None and owner != folder_id.encode():
            raise ClaimedByOther(owner.decode(errors="replace"), folder_id)

    async def read(self, most: int) -> RawBatch:
        """Return pending entries, then new ones, until there are `most` or no more.

        Raises:
            StoreUnavailable: Redis does not answer. Nothing is lost; the next call begins anew.
        """
        try:
            if not self._cursors:
                await self._begin()
            return await self._read(most)
        except BaseException:
            self.reset()
            raise

    async def acknowledge(self, batch: RawBatch) -> int:
        """Remove the entries of a batch from Redis, and return how many are still in the streams.

        Only entries up to the last one of the batch are removed, all of which were read. They are
        removed before they are acknowledged: where this is cut off, what is left is pending.

        Raises:
            StoreUnavailable: Redis does not answer. The entries may be read again.
        """
        calls = []
        for shard, ids in batch.ids.items():
            key, after = stream_key(shard), _next_id(ids[-1])
            calls += [
                RedisCall(("XTRIM", key, "MINID", "=", after), key, repeatable=True),
                RedisCall(("XACK", key, GROUP, *ids), key, repeatable=True),
            ]
        lengths = [
            RedisCall(("XLEN", stream_key(shard)), stream_key(shard), repeatable=True)
            for shard in range(SHARDS)
        ]
        try:
            return int(sum((await self._run(*calls, *lengths))[len(calls) :]))
        except BaseException:
            self.reset()
            raise

    async def clock(self) -> float:
        """Return the time of Redis in seconds since 1970; raise `StoreUnavailable`."""
        ((seconds, _),) = await self._run(RedisCall(("TIME",), "", repeatable=True))
        return float(seconds)

    def reset(self) -> None:
        """Begin anew with the pending entries: a batch was not written."""
        self._cursors = {}

    async def _owner(self) -> bytes | None:
        (owner,) = await self._run(RedisCall(("GET", FOLDER_KEY), FOLDER_KEY, repeatable=True))
        return None if owner is None else bytes(owner)

    async def _begin(self) -> None:
        """Create the groups that are missing. Streams and groups end with the data of Redis."""
        create = ("XGROUP", "CREATE")
        calls = [
            RedisCall((*create, stream_key(s), GROUP, "0", "MKSTREAM"), stream_key(s), True)
            for s in range(SHARDS)
        ]
        await self._redis_client.run("feedback", calls)  # it refuses to create one a second time
        self._cursors = dict.fromkeys(range(SHARDS), PENDING)

    async def _read(self, most: int) -> RawBatch:
        entries: list[RawEntry] = []
        ids: dict[int, list[str]] = {}
        read = ("XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", self._count, "STREAMS")
        waiting = list(range(SHARDS))  # shards that may have more
        while waiting and len(entries) < most:
            calls = [
                # a repeat would pass over what the first reply had
                RedisCall((*read, stream_key(s), self._cursors[s]), stream_key(s), repeatable=False)
                for s in waiting
            ]
            replies = await self._run(*calls)
            more = []
            for shard, reply in zip(waiting, replies, strict=True):
                found = reply[0][1] if reply else []
                is_pending = self._cursors[shard] != NEW
                for entry_id, fields in found:
                    text = entry_id.decode()
                    ids.setdefault(shard, []).append(text)
                    if fields is not None:  # else it was removed, but not acknowledged
                        entries.append(RawEntry(shard, text, fields))
                if is_pending:
                    self._cursors[shard] = ids[shard][-1] if found else NEW
                if is_pending or len(found) == self._count:
                    more.append(shard)
            waiting = more
        return RawBatch(entries, ids, drained=not waiting)

    async def _run(self, *calls: RedisCall) -> list[Any]:
        replies = await self._redis_client.run("feedback", calls)
        for reply in replies:
            if isinstance(reply, StoreUnavailable):
                raise reply
        return replies


def _next_id(entry_id: str) -> str:
    """Return the smallest id after this one."""
    milliseconds, sequence = entry_id.split("-")
    return f"{milliseconds}-{int(sequence) + 1}"
