"""The command `recsys collect`: the feedback of a service becomes a folder of events."""

import asyncio
import logging
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recsys.errors import BadInput, Interrupted
from recsys.events.attribution import LATE_SECONDS

if TYPE_CHECKING:
    from data.events.folder import EventsFolder
    from service.collector.collector import CollectorOptions, RoundCounts
    from service.collector.metrics import CollectorMetrics
    from service.redis_client.client import RedisClient

STANDBY_SECONDS = 1.0
REPORT_SECONDS = 60.0  # at least, between two log lines about what was collected
TIMEOUT_MS, BUDGET_MS = 30_000, 60_000  # of a call to Redis, which returns many entries
app = typer.Typer()
log = logging.getLogger("recsys.collect")


@app.command(rich_help_panel="Serve")
def collect(
    out: Annotated[Path, typer.Option(help="Events folder; it is made where there is none.")],
    redis: Annotated[
        str, typer.Option(envvar="RECSYS_REDIS", help="Redis of the service, as for recsys serve.")
    ] = "redis://127.0.0.1:6379/0",
    keep_days: Annotated[
        float | None, typer.Option(help="Remove events that are older.", show_default="keep all")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Collect what is there, compact the folder, and end.")
    ] = False,
    every_seconds: Annotated[
        float, typer.Option("--every", min=LATE_SECONDS, help="Seconds between two rounds.")
    ] = 10.0,
    compact_minutes: Annotated[
        float, typer.Option(min=0.0, help="Minutes between two compactions of the folder.")
    ] = 60.0,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of /metrics for Prometheus.", show_default="none")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address of /metrics.")] = "127.0.0.1",
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Go on in this folder, though another one was used."),
    ] = False,
    log_format: Annotated[str, typer.Option(help="Log lines: text or json.")] = "text",
) -> None:
    """Collect the clicks and lists of a service with RECSYS_FEEDBACK=stream into Parquet files.

    Each click is written once, whatever is killed in between. A second collector of the folder
    waits until the first one ends. recsys train --clicks reads the folder.
    """
    from service.collector.collector import CollectorOptions
    from service.collector.metrics import CollectorMetrics
    from service.logs import log_to_stderr

    log_to_stderr("info", _form(log_format))
    options = CollectorOptions(every_seconds, compact_minutes * 60)
    target = Target(redis, out, keep_days, take_over)
    metrics = CollectorMetrics()
    with _served(metrics, metrics_host, metrics_port):
        asyncio.run(run_collector(target, options, metrics, once=once))


@dataclass(frozen=True, slots=True)
class Target:
    """Redis to collect from, and the folder to collect into."""

    redis: str
    out: Path
    keep_days: float | None
    take_over: bool

    def __post_init__(self) -> None:
        if self.keep_days is not None and not 0 < self.keep_days < float("inf"):
            raise BadInput(
                "The options cannot be used",
                [f"--keep-days must be above 0, got {self.keep_days}. Give a number of days."],
            )


class FolderSink:
    """Events folder of one collector."""

    def __init__(self, folder: "EventsFolder", keep_days: float | None) -> None:
        from data.events.writing import EventsWriter

        self._folder, self._keep_days = folder, keep_days
        self.write = EventsWriter(folder).write

    def compact(self, now: float) -> int:
        """Compact the folder, and return the number of rows of deleted users that were removed."""
        from data.events.compaction import Compacted, compact

        done = compact(self._folder, now, self._keep_days)
        if done != Compacted():
            log.info(
                "Compacted: %d files merged, %d rows of deleted users and %d old hours removed.",
                done.merged_files,
                done.erased_rows,
                done.removed_hours,
            )
        return done.erased_rows


class Report:
    """Log line about the rounds of a minute."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._waiting = 0
        self._next = time.monotonic()

    def add(self, counts: "RoundCounts", waiting: int) -> None:
        """Add a round; write the line where the last one is long ago."""
        self._rows.update(counts.rows)
        self._waiting = waiting
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Write the line where there is something to say."""
        self._next = time.monotonic() + REPORT_SECONDS
        if self._rows.total():
            rows = ", ".join(f"{kind}: {number:,}" for kind, number in sorted(self._rows.items()))
            log.info("Collected %s. Waiting in Redis: %d.", rows, self._waiting)
            self._rows.clear()


async def run_collector(
    target: Target, options: "CollectorOptions", metrics: "CollectorMetrics", *, once: bool
) -> None:
    """Collect until a signal comes or, with `once`, until the streams are empty.

    Raises:
        BadInput: The folder cannot be used, or with `once` another process uses it.
        StoreUnavailable: Redis does not answer; only with `once`.
        Interrupted: A signal came before all was collected; only with `once`.
    """
    from data.events.folder import EventsFolder
    from recsys.fileio import make_folders
    from service.collector.collector import Collector
    from service.collector.reader import FeedbackReader

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    make_folders(target.out)
    client = _client(target.redis)
    try:
        with ExitStack() as stack:
            if not await _locked(target.out, stack, stop, wait=not once):
                return
            folder = EventsFolder.create(target.out)
            reader, report = FeedbackReader(client), Report()
            if target.take_over:
                await reader.claim(folder.folder_id, take_over=True)
            sink = FolderSink(folder, target.keep_days)
            collector = Collector(
                reader, sink, folder.folder_id, options, metrics, time.time, report.add
            )
            metrics.active.set(1)
            log.info("Collecting into %s, folder %s.", target.out, folder.folder_id)
            await (collector.collect_once(stop) if once else collector.run(stop))
            report.write()
    finally:
        await client.close()
    if once and stop.is_set():
        raise Interrupted("Stopped. What is not collected is still in Redis.")


async def _locked(out: Path, stack: ExitStack, stop: asyncio.Event, *, wait: bool) -> bool:
    """Take the lock on the folder, perhaps after another process; return False where stopped."""
    from data.events.writing import FolderInUse, only_writer
    from service.collector.collector import wait_for

    waiting = False
    while not stop.is_set():
        try:
            stack.enter_context(only_writer(out))
            return True
        except FolderInUse:
            if not wait:
                raise
        if not waiting:
            waiting = True
            log.info("Another process collects into %s. This one waits until that one ends.", out)
        await wait_for(stop, STANDBY_SECONDS)
    return False


def _client(url: str) -> "RedisClient":
    from service.redis_client.breaker import BreakerConfig
    from service.redis_client.client import RedisClient

    try:
        return RedisClient(
            url,
            timeout_ms=TIMEOUT_MS,
            budget_ms=BUDGET_MS,
            connections=2,
            breaker=BreakerConfig(failures=3, pause_seconds=1.0),
            observe=lambda *_: None,
        )
    except ValueError as wrong:
        raise BadInput("The options cannot be used", [f"--redis {wrong}."]) from wrong


@contextmanager
def _served(metrics: "CollectorMetrics", host: str, port: int | None) -> Iterator[None]:
    """Serve the metrics by a thread of its own, if there is a port."""
    if port is None:
        yield
        return
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except (OSError, OverflowError) as failed:
        reason = failed.strerror if isinstance(failed, OSError) else "a port is at most 65535"
        raise BadInput(
            "The metrics cannot be served",
            [f"{host}:{port}: {reason}. Give another --metrics-port."],
        ) from failed
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _form(name: str) -> 'Literal["text", "json"]':
    if name == "json":
        return "json"
    if name == "text":
        return "text"
    raise BadInput("The options cannot be used", [f"--log-format {name!r}: give text or json."])
