"""kill -9 of collectors, server and Redis under load: each acknowledged click is collected once.

Two collectors run, one of which waits for the other. Each round kills one of them, the server, or
Redis, which writes each command to disk before it answers. No two clicks of a user are on one item,
so that a click is known again in the log. A click that was not acknowledged is sent again with its
event id, until it is. The lists of a moment before a kill may be lost; the numbers of list ids say
how many.

Another part kills collectors while they write a long backlog, at a random moment of their work.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from random import Random

import redis as redis_py
import uvloop

from data.events.folder import EventsFolder
from data.events.reading import read_events
from recsys.bundle.golden import open_predictor
from recsys.events.schemas import CLICKS, IMPRESSIONS, REJECTED
from service.feedback.entries import SHARDS, ClickEntry, ImpressionEntry, stream_key
from service.feedback.impressions import FLUSH_SECONDS
from service.store.user_keys import user_key
from tests.soak.bounds import Bound
from tests.soak.kills import MOST_REPEATS, acknowledged, user_of
from tests.support.processes import Process, start_fork
from tests.support.redis.servers import DURABLE, RedisServer, own_redis, wait_until
from tests.support.service.servers import ServerProcess
from tests.support.service.steady_load import LoadRequest, LoadResponse, SteadyLoad

RATE = 200.0
REQUESTS_PER_USER = 20
SECRET = "a secret of the soak"
LOST_SECONDS = FLUSH_SECONDS + 0.9  # of lists, for each kill: they wait, and are on their way
COMPACT_MINUTES = "0.05"
BACKLOG = 5_000  # clicks, and as many lists, for each kill of a collector at work
WRITING_SECONDS = 0.6  # it writes about half of them
BEGUN = "Collecting into"  # in the log


class OwnItems:
    """Requests of the load, with two clicks on different items each; number n is the nth one."""

    def __init__(self, items: Sequence[str]) -> None:
        assert len(items) >= 2 * REQUESTS_PER_USER
        self._items = items

    def __call__(self, number: int) -> LoadRequest:
        user, place = divmod(number, REQUESTS_PER_USER)
        first, second = self._items[2 * place : 2 * place + 2]
        click = {"item_id": first, "event_id": f"e-{number}"}
        if number % 3:
            return LoadRequest("/v1/recommendations", {"user_id": f"user-{user}", **click})
        also = {"item_id": second, "event_id": f"e-{number}b"}
        return LoadRequest(f"/v1/users/user-{user}/clicks", {"clicks": [click, also]})


class Collectors:
    """Two processes of `recsys collect`, one of which works."""

    def __init__(self, redis: str, folder: Path, log: Path) -> None:
        words = ["collect", "--redis", redis, "--out", str(folder), "--every", "1"]
        self._words = [*words, "--compact-minutes", COMPACT_MINUTES]
        self._log = log
        self._processes: list[Process] = [self._start(), self._start()]

    def kill_one(self) -> None:
        """Kill the one that has run for longer, which works or did so last; start another."""
        self._processes.append(self._start())
        process = self._processes.pop(0)
        process.kill()
        process.wait()

    def stop(self) -> list[int]:
        """Stop both with SIGTERM and return their exit statuses."""
        for process in self._processes:
            process.terminate()
        return [process.wait(60) for process in self._processes]

    def collect_rest(self) -> int:
        """Collect what is left, and return the exit status."""
        return start_fork([*self._words, "--once"], self._log, os.environ).wait(120)

    def _start(self) -> Process:
        return start_fork(self._words, self._log, os.environ)


def kill_everything(bundle: Path, folder: Path, kills: int) -> list[Bound]:
    """Kill a collector, the server and Redis in turns."""
    events = folder / "events"
    environment = {"RECSYS_FEEDBACK": "stream", "RECSYS_USER_ID_SECRET": SECRET}
    with own_redis(*DURABLE) as redis:
        collectors = Collectors(redis.url, events, folder / "collect.log")
        try:
            with ServerProcess(
                bundle, redis.url, folder / "serve.log", start_fork, **environment
            ) as server:
                responses, later = uvloop.run(_load(bundle, server, redis, collectors, kills))
        finally:
            statuses = collectors.stop()
        statuses.append(collectors.collect_rest())
        with redis.client() as client:
            left = sum(client.xlen(key) for key in client.scan_iter("recsys:*:feedback"))
    log = (folder / "collect.log").read_text(errors="replace")
    return [
        Bound("kills", str(kills)),
        *_click_bounds(responses, later, events),
        *_list_bounds(responses, events, kills),
        Bound("entries left in Redis", str(left), "0", left == 0),
        Bound("exit statuses of collectors", str(statuses), "0", set(statuses) == {0}),
        Bound("tracebacks", str(log.count("Traceback")), "0", "Traceback" not in log),
    ]


def kill_at_work(bundle: Path, folder: Path, kills: int) -> list[Bound]:
    """Kill a collector again and again while it collects a backlog, then collect the rest.

    Every second time it is killed when its next file appears, before it can have acknowledged.
    """
    events, log, draw = folder / "events", folder / "collect.log", Random(1)
    began, written = 0, 0
    with own_redis() as redis, redis.client() as client:
        words = ["collect", "--redis", redis.url, "--out", str(events), "--every", "1"]
        for kill in range(kills):
            _add_backlog(client, kill)
            process = start_fork(words, log, os.environ)
            wait_until(partial(_has_begun, log, began + 1), "it has begun")
            if kill % 2:
                wait_until(partial(_has_files, events, written + 1), "a file appears", 0.001)
            else:
                time.sleep(draw.random() * WRITING_SECONDS)
            began = log.read_text().count(BEGUN)
            process.kill()
            process.wait()
            written = len(list(events.rglob("*.parquet")))
        status = start_fork([*words, "--once"], log, os.environ).wait(300)
        left = sum(client.xlen(key) for key in client.scan_iter("recsys:*:feedback"))
    again = log.read_text(errors="replace").count("were in the folder already")
    bounds = [Bound("kills", str(kills)), Bound("rounds that were written before", str(again))]
    for kind in (CLICKS, IMPRESSIONS):
        entries = Counter(read_events(events, kind, columns=["entry"])["entry"].to_pylist())
        expected, doubled = kills * BACKLOG, sum(times > 1 for times in entries.values())
        bounds += [
            Bound(
                f"{kind} in the log", f"{len(entries):,}", f"{expected:,}", len(entries) == expected
            ),
            Bound(f"{kind} in the log twice", str(doubled), "0", doubled == 0),
        ]
    return [
        *bounds,
        Bound("entries left in Redis", str(left), "0", left == 0),
        Bound("exit status", str(status), "0", status == 0),
    ]


def _has_begun(log: Path, times: int) -> bool:
    return log.read_text(errors="replace").count(BEGUN) >= times


def _has_files(events: Path, number: int) -> bool:
    return len(list(events.rglob("*.parquet"))) >= number


def _add_backlog(client: redis_py.Redis, number: int) -> None:
    pipeline = client.pipeline(transaction=False)
    for at in range(BACKLOG):
        user, list_id = f"user-{at % 997:011}", f"process{number}.{at}"
        click = ClickEntry(user, "1" * 16, number * BACKLOG + at + 1, f"item-{at}", list_id=list_id)
        shown = ImpressionEntry(user, "1" * 16, list_id, "m", None, "model", (f"item-{at}",) * 20)
        for entry in (click, shown):
            pipeline.xadd(stream_key(at % SHARDS), dict(entry.fields().items()))
    pipeline.execute()


async def _load(
    bundle: Path, server: ServerProcess, redis: RedisServer, collectors: Collectors, kills: int
) -> tuple[Sequence[LoadResponse], int]:
    """Return all responses, and how many clicks were acknowledged when they were sent again."""

    def kill_server() -> None:
        server.kill()
        server.start()

    def kill_redis() -> None:
        redis.kill()
        redis.start()

    requests = OwnItems(open_predictor(bundle).catalogue.item_ids)
    load, draw = SteadyLoad("127.0.0.1", server.port, RATE, requests), Random(1)
    async with load.running():
        for die in islice(cycle([collectors.kill_one, kill_server, kill_redis]), kills):
            await asyncio.sleep(1.0 + draw.random())
            await asyncio.to_thread(die)
        await asyncio.sleep(1)
    later = [await _until_acknowledged(load, each) for each in load.responses]
    return load.responses, sum(later)


async def _until_acknowledged(load: SteadyLoad, response: LoadResponse) -> bool:
    """Send a click again until it is acknowledged; return whether it was, False for no need."""
    if acknowledged(response):
        return False
    for _ in range(MOST_REPEATS):
        again = await load.send(response.request)
        if acknowledged(again):
            return True
        await asyncio.sleep(0.05)
    return False


def _click_bounds(responses: Sequence[LoadResponse], later: int, events: Path) -> list[Bound]:
    table = read_events(events, CLICKS)
    logged = Counter(zip(table["user_id"].to_pylist(), table["item_id"].to_pylist(), strict=True))
    numbers = Counter(zip(table["session_id"].to_pylist(), table["click"].to_pylist(), strict=True))
    sent = [click for each in responses for click in _clicks_of(each.request)]
    safe = [click for each in responses if acknowledged(each) for click in _clicks_of(each.request)]
    rest = sum(not acknowledged(each) for each in responses)
    lost = [click for click in safe if click not in logged]
    missing = [click for click in sent if click not in logged]
    doubled = sum(times > 1 for times in (*logged.values(), *numbers.values()))
    rejected = len(read_events(events, REJECTED))
    return [
        Bound(
            f"of {len(safe):,} acknowledged clicks, not in the log", str(len(lost)), "0", not lost
        ),
        Bound("in the log twice", str(doubled), "0", doubled == 0),
        Bound(
            f"of {rest:,} requests not acknowledged, acknowledged when sent again",
            f"{later:,}; clicks missing {len(missing)}",
            "all",
            later == rest and not missing,
        ),
        Bound("rows in the log", f"{len(table):,}", f"{len(sent):,}", len(table) == len(sent)),
        Bound("rejected entries", str(rejected), "0", rejected == 0),
        Bound("files of clicks", f"{len(EventsFolder.open(events).files(CLICKS)):,}"),
    ]


def _clicks_of(request: LoadRequest) -> list[tuple[str, str]]:
    """Return hashed user and item of each click."""
    user = user_key(user_of(request), SECRET.encode()).rpartition(":")[2]
    clicks = request.body.get("clicks", [request.body])
    return [(user, click["item_id"]) for click in clicks]


def _list_bounds(responses: Sequence[LoadResponse], events: Path, kills: int) -> list[Bound]:
    logged = Counter(read_events(events, IMPRESSIONS, columns=["list_id"])["list_id"].to_pylist())
    answered = {each.body["list_id"] for each in responses if "list_id" in each.body}
    lost = len(answered - set(logged))
    gaps = _gaps(set(logged))
    doubled = sum(times > 1 for times in logged.values())
    most = round(kills * 2 / 3 * LOST_SECONDS * RATE)  # no list is lost with a collector
    return [
        Bound(
            f"of {len(answered):,} answered lists, not in the log",
            f"{lost:,}; gaps of numbers: {gaps:,}",
            f"at most {most:,}",
            len(answered) > 0 and lost <= most,
        ),
        Bound("lists in the log twice", str(doubled), "0", doubled == 0),
    ]


def _gaps(list_ids: set[str]) -> int:
    """Return how many numbers below the highest one of each process are missing."""
    highest: dict[str, int] = {}
    for list_id in list_ids:
        process, _, number = list_id.rpartition(".")
        highest[process] = max(highest.get(process, 0), int(number))
    return sum(each + 1 for each in highest.values()) - len(list_ids)
