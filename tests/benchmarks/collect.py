"""Measure the collector of feedback on one processor: events a second, bytes in Redis and on disk.

    python tests/benchmarks/collect.py

Fills the streams of a private Redis with clicks and with lists of 20 items, one list for each
click, then collects them. Redis runs on another processor, if there is one.
"""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from random import Random

import redis as redis_py
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from data.events.compaction import compact
from data.events.folder import EventsFolder
from data.events.reading import read_events
from recsys.cli.collect import FolderSink
from recsys.events.schemas import CLICKS, IMPRESSIONS
from service.collector.collector import Collector, CollectorOptions
from service.collector.metrics import CollectorMetrics
from service.collector.reader import FeedbackReader
from service.feedback.entries import SHARDS, ClickEntry, ImpressionEntry, stream_key
from service.server.embedded_redis import private_redis
from tests.support.redis.stores import redis_client_for

ITEMS, SHOWN, CLICKS_PER_USER = 50_000, 20, 5
PER_PIPELINE = 2000


def main(events: int = 400_000) -> None:
    """Print the figures; events: clicks and lists together."""
    with private_redis() as url, tempfile.TemporaryDirectory() as temporary:
        stored = fill(url, events)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        folder = EventsFolder.create(Path(temporary) / "events")
        took, cpu = uvloop.run(collect(url, folder))
        rows = sum(metadata_rows(folder, kind) for kind in (CLICKS, IMPRESSIONS))
        assert rows == events, f"{rows:,} rows of {events:,} events"
        began = time.perf_counter()
        compact(folder, time.time() + 7200)
        compacting = time.perf_counter() - began
        on_disk = sum(
            file.path.stat().st_size for k in (CLICKS, IMPRESSIONS) for file in folder.files(k)
        )
    table = Table("", "measured")
    table.add_row("events a second", f"{events / took:,.0f}")
    table.add_row("events a second of processor time", f"{events / cpu:,.0f}")
    table.add_row("bytes of an event in Redis", f"{stored / events:,.0f}")
    table.add_row("bytes of an event on disk, compacted", f"{on_disk / events:,.0f}")
    table.add_row("events a second of compaction", f"{events / compacting:,.0f}")
    Console().print(table)


def fill(url: str, events: int) -> int:
    """Add the events to the streams, and return their bytes in Redis."""
    draw = Random(1)
    with redis_py.Redis.from_url(url) as redis:
        before = redis.info("memory")["used_memory"]
        pipeline = redis.pipeline(transaction=False)
        for number in range(events // 2):
            shard, user = number // CLICKS_PER_USER % SHARDS, f"u{number // CLICKS_PER_USER:015}"
            items = tuple(f"item-{draw.randrange(ITEMS)}" for _ in range(SHOWN))
            list_id, session = f"AbCdEfGh.{number}", "1767225600000000"
            shown = ImpressionEntry(user, session, list_id, "m" * 16, None, "model", items)
            click = ClickEntry(
                user,
                session,
                number % CLICKS_PER_USER + 1,
                items[0],
                "view",
                list_id,
                None,
                "m" * 16,
            )
            for entry in (shown, click):
                pipeline.xadd(stream_key(shard), {**entry.fields()})
            if len(pipeline) >= PER_PIPELINE:
                pipeline.execute()
        pipeline.execute()
        return int(redis.info("memory")["used_memory"]) - int(before)


async def collect(url: str, folder: EventsFolder) -> tuple[float, float]:
    """Collect everything; return seconds, and seconds of processor time of this process."""
    client = redis_client_for(url, timeout_ms=30_000, budget_ms=60_000)
    collector = Collector(
        FeedbackReader(client),
        FolderSink(folder, keep_days=None),
        folder.folder_id,
        CollectorOptions(every_seconds=1.0, compact_seconds=3600.0),
        CollectorMetrics(),
        time.time,
    )
    clock, cpu = time.perf_counter(), time.process_time()
    await collector.collect_once(asyncio.Event())
    took = time.perf_counter() - clock, time.process_time() - cpu
    await client.close()
    return took


def metadata_rows(folder: EventsFolder, kind: str) -> int:
    """Return the number of rows of a kind."""
    return len(read_events(folder.path, kind, columns=["entry"]))


if __name__ == "__main__":
    typer.run(main)
