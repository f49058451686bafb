"""Impressions: the lists that were answered to users get ids, and are logged in the streams.

A list id is a random text of the process and a number that counts up: gaps between the numbers in
the log are lists that were lost, also of a process that was killed. Lists wait in the process until
those of their stream are logged together, after at most `FLUSH_SECONDS` and what Redis needs for
other streams; no request waits for it. So an impression may stand behind a click on its list, and a
process that is killed loses those of that time. The streams take turns, because all at once would
delay the requests of that moment. An impression is not sent again if Redis does not answer, because
it could be logged twice.
"""

import asyncio
import itertools
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recsys.errors import StoreUnavailable
from service.feedback.entries import impression_data, stream_keys, stream_of
from service.redis_client.client import RedisClient
from service.redis_client.server import Script

FLUSH_SECONDS = 0.5  # longer waits mean fewer script calls, with more lists each
TURNS = 5  # of the streams in this time
MAX_WAITING_BYTES = 16_000_000
PREFIX_BYTES = 6
SCRIPT = Path(__file__).parent / "impressions.lua"


@dataclass(slots=True)
class _StreamLists:
    """Lists that wait for one stream, as impressions.lua takes them."""

    user_keys: list[str] = field(default_factory=list)
    arguments: list[str | bytes] = field(default_factory=list)  # nonce and data of each list
    size: int = 0  # bytes of data


class Impressions:
    """Lists that wait to be logged.

    Args:
        redis_client: the client.
        stream_bytes: size of a stream above which impressions are dropped.
        count: called with an outcome and a number of impressions: logged, full (the stream),
            waiting (too many bytes wait in this process), ended (the session, by a deletion or
            else), unavailable (Redis did not answer or refused them; they may be logged).
    """

    def __init__(
        self, redis_client: RedisClient, stream_bytes: int, count: Callable[[str, int], None]
    ) -> None:
        self._redis_client, self._count = redis_client, count
        self._stream_bytes = str(stream_bytes)
        self._script = Script(SCRIPT.read_text(encoding="utf-8"))
        self._prefix = secrets.token_urlsafe(PREFIX_BYTES)
        self._lists = 0
        self._waiting: defaultdict[str, _StreamLists] = defaultdict(_StreamLists)  # by stream
        self._waiting_bytes = 0
        self._turn_of = {stream: shard % TURNS for shard, stream in enumerate(stream_keys())}
        self._flushing: asyncio.Task[None] | None = None

    def add(
        self,
        user_key: str,
        nonce: str,
        *,
        model_id: str,
        variant: str | None,
        source: str,
        items: Sequence[str],
    ) -> str:
        """Log a list soon, and return its id.

        Args:
            user_key: Key of the user in Redis.
            nonce: Nonce of the user's session; empty if there is none.
            model_id: Model that made the list.
            variant: Variant of an experiment, if one runs.
            source: Source of the list, as in the answer.
            items: Item ids of the list, in order.
        """
        list_id = f"{self._prefix}.{self._lists}"
        self._lists += 1
        data = impression_data(list_id, model_id, variant, source, items)
        if self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
            self._count("waiting", 1)
            return list_id
        waiting = self._waiting[stream_of(user_key)]
        waiting.user_keys.append(user_key)
        waiting.arguments += (nonce, data)
        waiting.size += len(data)
        self._waiting_bytes += len(data)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_later(), name="impressions")
        return list_id

    async def close(self) -> None:
        """Log the lists that wait."""
        if self._flushing is not None:
            await asyncio.wait({self._flushing})
        await self.flush()

    async def flush(self) -> None:
        """Log the lists that wait now."""
        await self._log(list(self._waiting))

    async def _log(self, streams: Collection[str]) -> None:
        """Log the lists that wait for these streams, with one script for each stream."""
        logging = [self._waiting.pop(stream) for stream in streams]
        self._waiting_bytes -= sum(waiting.size for waiting in logging)
        calls = [
            self._script.call(
                [stream, *waiting.user_keys],
                [self._stream_bytes, *waiting.arguments],
                repeatable=False,
            )
            for stream, waiting in zip(streams, logging, strict=True)
        ]
        replies = await self._redis_client.run("impressions", calls)
        outcomes: Counter[str] = Counter()
        for waiting, reply in zip(logging, replies, strict=True):
            lists = len(waiting.user_keys)
            if isinstance(reply, StoreUnavailable):
                outcomes["unavailable"] += lists
            else:
                logged, ended = reply
                outcomes.update(logged=logged, ended=ended, full=lists - logged - ended)
        for outcome, lists in outcomes.items():
            self._count(outcome, lists)

    async def _flush_later(self) -> None:
        """Log the lists that wait, until there are none."""
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        for turn in itertools.cycle(range(TURNS)):
            if not self._waiting:
                return
            next_at += FLUSH_SECONDS / TURNS
            await asyncio.sleep(next_at - loop.time())
            await self._log([s for s in self._waiting if self._turn_of[s] == turn])
