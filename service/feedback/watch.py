"""Watch over the feedback streams: their sizes as metrics, and whether Redis keeps them.

The collector removes what it has collected. So the oldest entry is the first one that is not
collected yet, and its age is the lag of the collection.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsys.errors import StoreUnavailable
from service.feedback.entries import stream_keys
from service.redis_client.client import RedisClient
from service.redis_client.server import RedisCall, Script

POLL_SECONDS = 5.0
INFO_CALL = RedisCall(("INFO",), "", repeatable=True)
SCRIPT = Path(__file__).parent / "stream_state.lua"
log = logging.getLogger("recsys.service")


@dataclass(frozen=True, slots=True)
class StreamSizes:
    """Sizes of all streams together."""

    entries: int
    stream_bytes: int
    fullest: float  # share of its limit that the fullest stream has reached
    oldest_seconds: float  # age of the oldest entry


class StreamWatch:
    """Poll the streams.

    Args:
        redis_client: the client.
        stream_bytes: limit of one stream.
        on_sizes: called with the sizes when they have been read.
    """

    def __init__(
        self,
        redis_client: RedisClient,
        stream_bytes: int,
        on_sizes: Callable[[StreamSizes], None],
    ) -> None:
        self._redis_client, self._stream_bytes = redis_client, stream_bytes
        self._on_sizes = on_sizes
        self._script = Script(SCRIPT.read_text(encoding="utf-8"))
        self._is_checked = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start polling."""
        self._task = asyncio.create_task(self._run(), name="feedback")

    async def stop(self) -> None:
        """Stop polling."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def read(self) -> None:
        """Read the sizes; at the first time, log what Redis may lose."""
        calls = [self._script.call([key], [], repeatable=True) for key in stream_keys()]
        replies = await self._redis_client.run("feedback", calls)
        states = [reply for reply in replies if not isinstance(reply, StoreUnavailable)]
        if not states:
            return
        entries, sizes, ages = zip(*states, strict=True)
        self._on_sizes(
            StreamSizes(sum(entries), sum(sizes), max(sizes) / self._stream_bytes, max(ages) / 1000)
        )
        if not self._is_checked:
            self._is_checked = True
            for problem in losses_of(await self._redis_client.ask_servers(INFO_CALL)):
                log.warning("RECSYS_FEEDBACK=stream: %s", problem)

    async def _run(self) -> None:
        while True:
            try:
                await self.read()
            except Exception:  # an unforeseen error must not end the task
                log.exception("The feedback streams could not be read; it is tried again soon.")
            await asyncio.sleep(POLL_SECONDS)


def losses_of(replies: Sequence[object]) -> Iterator[str]:
    """Yield a sentence for each way in which servers may lose feedback.

    replies: of INFO, from every server.
    """
    infos = [_read_info(reply) for reply in replies if isinstance(reply, bytes)]
    if len(infos) < len(replies):
        yield (
            "A Redis server did not answer INFO, so it is not known whether it keeps feedback "
            "that is not collected yet. docs/redis.md has the permissions that are needed."
        )
    for policy in sorted({info["maxmemory_policy"] for info in infos if _may_evict(info)}):
        yield (
            "Redis may evict feedback that is not collected yet, because its maxmemory-policy is "
            f"{policy}. Set a volatile-... policy or noeviction."
        )
    if any(info.get("aof_enabled") == "0" for info in infos):
        yield (
            "Redis keeps no append-only file, so a restart loses clicks that were acknowledged "
            "and not collected yet. Set appendonly yes."
        )


def _read_info(reply: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, _, value in pairs}


def _may_evict(info: dict[str, str]) -> bool:
    limited = info.get("maxmemory", "0") != "0"
    return limited and info.get("maxmemory_policy", "").startswith("allkeys-")
