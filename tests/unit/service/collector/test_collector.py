"""The collector writes each entry once, whatever fails, and removes only what it has written."""

import asyncio
import errno
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import redis as redis_py

from data.events.folder import EventsFolder
from data.events.reading import read_clicks, read_events
from recsys.cli.collect import FolderSink
from recsys.errors import BadInput, StoreUnavailable
from recsys.events.schemas import IMPRESSIONS, REJECTED, Columns
from service.collector.collector import Collector, CollectorOptions, EventsSink, RoundCounts
from service.collector.metrics import CollectorMetrics
from service.collector.reader import FeedbackReader
from service.feedback.entries import (
    ClickEntry,
    DeletionEntry,
    FeedbackEntry,
    ImpressionEntry,
    stream_key,
    stream_keys,
)
from service.redis_client.client import RedisClient
from tests.support.redis.stores import redis_client_for

OPTIONS = CollectorOptions(every_seconds=0.01, compact_seconds=0.0)
GO = asyncio.Event()  # never set


@pytest.fixture
def folder(tmp_path: Path) -> EventsFolder:
    return EventsFolder.create(tmp_path / "events")


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(redis_url) as client:
        yield client


def collector_of(
    client: RedisClient,
    folder: EventsFolder,
    sink: EventsSink | None = None,
    metrics: CollectorMetrics | None = None,
    clock: Callable[[], float] = time.time,
) -> Collector:
    """Return a new collector, as a new process has it."""
    return Collector(
        FeedbackReader(client, count=3),
        sink or FolderSink(folder, keep_days=None),
        folder.folder_id,
        OPTIONS,
        metrics or CollectorMetrics(),
        clock,
    )


def click(number: int, item: str = "", user: str = "ada", list_id: str | None = None) -> ClickEntry:
    return ClickEntry(user, "1" * 16, number, item or f"item-{number}", "view", list_id, None, "m")


def shown(list_id: str, *items: str, user: str = "ada") -> ImpressionEntry:
    return ImpressionEntry(user, "", list_id, "m", "new", "model", items)


def add(redis: redis_py.Redis, *entries: FeedbackEntry, shard: int = 7) -> None:
    for entry in entries:
        add_fields(redis, entry.fields(), shard)


def add_fields(
    redis: redis_py.Redis, fields: Mapping[str, str | bytes], shard: int = 7, entry_id: str = "*"
) -> None:
    redis.xadd(stream_key(shard), {name: value for name, value in fields.items()}, id=entry_id)


def items_in(folder: EventsFolder) -> list[str]:
    items: list[str] = read_clicks(folder.path)["item_id"].tolist()
    return items


def left(redis: redis_py.Redis) -> int:
    return sum(redis.xlen(key) for key in stream_keys())


async def test_clicks_and_lists_of_all_shards_leave_redis_for_the_folder(
    redis: redis_py.Redis, redis_client: RedisClient, folder: EventsFolder
) -> None:
    for shard in range(64):
        add(redis, *(click(n, user=f"u{shard}") for n in range(1, 6)), shard=shard)
    add(redis, shown("x.0", "b", "a"))
    metrics = CollectorMetrics()
    await collector_of(redis_client, folder, metrics=metrics).collect_once(GO)

    clicks = read_clicks(folder.path)
    assert len(clicks) == 64 * 5
    assert set(clicks["session_id"]) == {f"u{shard}-{'1' * 16}" for shard in range(64)}
    for _, own in clicks.groupby("user_id"):
        assert own["item_id"].tolist() == [f"item-{n}" for n in range(1, 6)]
        assert own["click"].tolist() == [1, 2, 3, 4, 5]
    (row,) = read_events(folder.path, IMPRESSIONS).to_pylist()
    assert (row["variant"], row["session_id"], row["items"]) == ("new", None, ["b", "a"])
    assert left(redis) == 0
    assert metrics.registry.get_sample_value("recsys_collect_rows_total", {"kind": "clicks"}) == 320


async def test_a_clock_that_is_ahead_ends_no_old_days(
    redis: redis_py.Redis, redis_client: RedisClient, folder: EventsFolder
) -> None:
    add(redis, click(1))
    sink, year = FolderSink(folder, keep_days=1), 366 * 86_400
    ahead = collector_of(redis_client, folder, sink, clock=lambda: time.time() + year)
    await ahead.collect_once(GO)

    assert items_in(folder) == ["item-1"]


class CutOff(Exception):
    """End of the process."""


class EndingSink:
    """Folder whose process ends before or after a batch is written."""

    def __init__(self, folder: EventsFolder, after: bool) -> None:
        self._sink, self._after = FolderSink(folder, keep_days=None), after

    def write(self, batch: Mapping[str, Columns]) -> RoundCounts:
        if self._after:
            self._sink.write(batch)
        raise CutOff

    def compact(self, now: float) -> int:
        return self._sink.compact(now)


@pytest.mark.parametrize("ends", ["before", "after", "removed", "lost"])
async def test_a_process_that_ends_anywhere_loses_and_doubles_nothing(
    redis: redis_py.Redis, redis_client: RedisClient, folder: EventsFolder, ends: str
) -> None:
    """Ends: before or after the write, after the entries were removed but not acknowledged.

    `lost`: Redis loses what it noted of the group, as after a failover to a replica that is late.
    """
    add(redis, *(click(n) for n in range(1, 9)))
    before = redis.dump(stream_key(7))
    assert before is not None
    sink = EndingSink(folder, after=ends != "before")
    with pytest.raises(CutOff):
        await collector_of(redis_client, folder, sink).collect_once(GO)
    add(redis, click(9))
    if ends == "removed":
        redis.xtrim(stream_key(7), maxlen=1, approximate=False)
    if ends == "lost":
        redis.restore(stream_key(7), 0, before, replace=True)
        add(redis, click(9))
    metrics = CollectorMetrics()
    await collector_of(redis_client, folder, metrics=metrics).collect_once(GO)

    assert items_in(folder) == [f"item-{n}" for n in range(1, 10)]
    assert left(redis) == 0
    assert redis.xpending(stream_key(7), "collect")["pending"] == 0
    repeated = metrics.registry.get_sample_value("recsys_collect_repeated_total")
    assert repeated == (8 if ends in ("after", "lost") else 0)


class FullDisk:
    """Folder without space for the first batches, and with a failing disk for the last of them."""

    def __init__(self, folder: EventsFolder, failures: int) -> None:
        self._sink, self._failures = FolderSink(folder, keep_days=None), failures

    def write(self, batch: Mapping[str, Columns]) -> RoundCounts:
        self._failures -= 1
        if self._failures == 0:
            raise OSError(errno.EIO, "Input/output error")
        if self._failures > 0:
            raise BadInput("events cannot be written", ["No space left on device."])
        return self._sink.write(batch)

    def compact(self, now: float) -> int:
        return self._sink.compact(now)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_full_disk_and_lost_data_of_redis_end_rounds_and_nothing_more(
    redis: redis_py.Redis,
    redis_client: RedisClient,
    folder: EventsFolder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("service.collector.collector.RETRY_SECONDS", 0.01)
    metrics, stop = CollectorMetrics(), asyncio.Event()
    running = asyncio.create_task(
        collector_of(redis_client, folder, FullDisk(folder, 3), metrics).run(stop)
    )
    add(redis, click(1), click(2))
    await until(lambda: items_in(folder) == ["item-1", "item-2"])
    redis.flushall()  # with the groups
    add(redis, click(3))
    await until(lambda: items_in(folder) == ["item-1", "item-2", "item-3"])
    stop.set()
    await running
    value = metrics.registry.get_sample_value
    assert value("recsys_collect_failures_total", {"what": "folder"}) == 3
    assert value("recsys_collect_failures_total", {"what": "redis"}) != 0
    assert "No space left on device. Nothing is lost" in caplog.text.replace("\n", " ")


async def test_a_full_redis_is_collected(
    redis: redis_py.Redis, redis_client: RedisClient, folder: EventsFolder
) -> None:
    await collector_of(redis_client, folder).collect_once(GO)
    add(redis, click(1))
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis_py.OutOfMemoryError):
            add(redis, click(2))
        await collector_of(redis_client, folder).collect_once(GO)
    finally:
        redis.config_set("maxmemory", 0)
    assert (items_in(folder), left(redis)) == (["item-1"], 0)


async def test_foreign_and_damaged_entries_are_kept_aside(
    redis: redis_py.Redis, redis_client: RedisClient, folder: EventsFolder
) -> None:
    add(redis, click(1))
    foreign: list[dict[str, str | bytes]] = [
        {"a": "b"},
        {**click(2).fields(), "d": '["no click"]'},
        {**click(2).fields(), "n": "9" * 30},
        {**click(2).fields(), "u": b"\xff"},
        {"k": "c", "u": "ada"},
    ]
    for fields in foreign:
        add_fields(redis, fields)
    add(redis, click(2), shard=8)
    add_fields(redis, click(3).fields(), 8, f"{2**64 - 1}-1")
    await collector_of(redis_client, folder).collect_once(GO)

    assert items_in(folder) == ["item-1", "item-2", "item-3"]
    rejected = read_events(folder.path, REJECTED).to_pylist()
    assert len(rejected) == len(foreign)
    assert rejected[0]["fields"] == '{"a": "b"}'
    assert "no click, impression or deletion" in rejected[0]["problem"]
    assert rejected[4]["user_id"] == "ada"
    assert left(redis) == 0


async def test_no_byte_of_a_deleted_user_is_left_in_the_folder_or_in_redis(
    redis: redis_py.Redis, redis_client: RedisClient, folder: EventsFolder
) -> None:
    add(
        redis,
        click(1, "secret-item", "secret-user"),
        shown("x.0", "secret-item", user="secret-user"),
    )
    add(redis, click(1, "other", "bob"))
    add_fields(redis, {"u": "secret-user", "d": "secret-item"})
    await collector_of(redis_client, folder).collect_once(GO)
    assert b"secret" in bytes_of(folder)
    add(redis, click(2, "secret-item-2", "secret-user"), DeletionEntry("secret-user"))
    await collector_of(redis_client, folder).collect_once(GO)

    assert b"secret" not in bytes_of(folder)
    assert not any(b"secret" in (redis.dump(key) or b"") for key in redis.scan_iter())
    assert items_in(folder) == ["other"]


def bytes_of(folder: EventsFolder) -> bytes:
    """Return all files, those of Parquet also decompressed."""
    paths = [path for path in folder.path.rglob("*") if path.is_file()]
    texts = [str(pq.read_table(path).to_pydict()) for path in paths if path.suffix == ".parquet"]
    return b"".join(path.read_bytes() for path in paths) + "".join(texts).encode()


async def test_another_folder_is_refused_until_it_takes_over(
    redis: redis_py.Redis, redis_client: RedisClient, folder: EventsFolder, tmp_path: Path
) -> None:
    await collector_of(redis_client, folder).collect_once(GO)
    other = EventsFolder.create(tmp_path / "other")
    running = asyncio.create_task(collector_of(redis_client, folder).run(asyncio.Event()))
    with pytest.raises(BadInput, match=f"its id is {folder.folder_id}, not {other.folder_id}"):
        await collector_of(redis_client, other).collect_once(GO)
    await FeedbackReader(redis_client).claim(other.folder_id, take_over=True)
    with pytest.raises(BadInput, match=f"its id is {other.folder_id}"):
        await running
    add(redis, click(1))
    await collector_of(redis_client, other).collect_once(GO)
    assert items_in(other) == ["item-1"]


async def test_redis_that_does_not_answer_ends_a_single_collection(folder: EventsFolder) -> None:
    client = redis_client_for("redis://127.0.0.1:1/0", timeout_ms=200, budget_ms=300)
    with pytest.raises(StoreUnavailable):
        await collector_of(client, folder).collect_once(GO)
    await client.close()


async def test_ranks_and_lost_lists_are_counted(
    redis: redis_py.Redis, redis_client: RedisClient, folder: EventsFolder
) -> None:
    metrics = CollectorMetrics()
    collector = collector_of(redis_client, folder, metrics=metrics)
    add(redis, click(1, "b", list_id="p.0"))  # a list stands in the log after a click on it
    add(redis, shown("p.0", "a", "b"), shown("p.1", "b"), shown("p.4", "c"))  # 2 and 3 are lost
    await collector.collect_once(GO)
    add(redis, click(2, "b"), click(3, "z"), click(4, "a", list_id="unknown"), shown("p.6", "d"))
    await collector.collect_once(GO)
    await collector.collect_once(GO)

    value = metrics.registry.get_sample_value
    ranks = "recsys_collect_clicked_rank"
    assert value(f"{ranks}_count", {"variant": "new"}) == 2
    assert value(f"{ranks}_sum", {"variant": "new"}) == 2 + 1  # p.0 as named, p.1 as the newest
    assert value("recsys_collect_unlisted_clicks_total") == 2
    assert value("recsys_collect_lost_lists_total") == 2 + 1
