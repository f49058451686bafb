"""kill -9 of the server and of Redis under load: each acknowledged click is stored exactly once.

The load sends single clicks to the recommendations and pairs to the clicks call, each with an event
id. As a client would, it repeats a click that was not acknowledged, with the same event id, until
it is. Afterwards the clicks of all users are read: each acknowledged click must be there, and no
click may be there twice.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import uvloop

from recsys.bundle.golden import open_predictor
from service.server.embedded_redis import private_redis
from tests.soak.bounds import Bound
from tests.support.redis.servers import DURABLE, RedisServer, own_redis
from tests.support.service.processes import family
from tests.support.service.quick_client import QuickClient
from tests.support.service.servers import ServerProcess
from tests.support.service.steady_load import LoadRequest, LoadResponse, SteadyLoad

RATE = 200.0
REQUESTS_PER_USER = 30  # so few that all clicks of a user stay within the window
EVERY_SECOND = ("--appendonly", "yes", "--appendfsync", "everysec")
MINUTES, DAY = 60, 86_400
JUMPS = [20 * MINUTES, -DAY, 20 * MINUTES - DAY, -2 * DAY, 20 * MINUTES - 2 * DAY]
FAKE_TIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
MOST_REPEATS = 60  # of a click that is not acknowledged


class ClickRequests:
    """Requests of the load: number n is of user n // REQUESTS_PER_USER."""

    def __init__(self, items: Sequence[str]) -> None:
        self._items = items

    def __call__(self, number: int) -> LoadRequest:
        user, item = f"user-{number // REQUESTS_PER_USER}", self._items[number % len(self._items)]
        click = {"item_id": item, "event_id": f"e-{number}"}
        if number % 3:
            return LoadRequest("/v1/recommendations", {"user_id": user, **click})
        also = {"item_id": item, "event_id": f"e-{number}b"}
        return LoadRequest(f"/v1/users/{user}/clicks", {"clicks": [click, also]})


def user_of(request: LoadRequest) -> str:
    return str(request.body.get("user_id") or request.path.split("/")[3])


def events_of(request: LoadRequest) -> list[str]:
    return [click["event_id"] for click in request.body.get("clicks", [request.body])]


def acknowledged(response: LoadResponse) -> bool:
    """Return whether the service says that it stored the click; it can answer without storing."""
    return response.status == 200 and bool(response.body.get("stored", True))


def kill_server(bundle: Path, folder: Path, kills: int) -> list[Bound]:
    """Kill the server and start it again; Redis keeps running."""
    with (
        private_redis() as redis,
        ServerProcess(bundle, redis, folder / "kills.log", RECSYS_WORKERS="1") as server,
    ):

        def die() -> None:
            server.kill()
            server.start()

        return uvloop.run(_measured(bundle, server, die, kills, lossless=True))


def stop_server(bundle: Path, folder: Path, kills: int) -> list[Bound]:
    """Stop the server with SIGTERM: it finishes the accepted requests and exits with 0."""
    statuses: list[int] = []
    with private_redis() as redis, ServerProcess(bundle, redis, folder / "stops.log") as server:

        def die() -> None:
            statuses.append(server.stop())
            server.start()

        bounds = uvloop.run(_measured(bundle, server, die, kills, lossless=True))
    counts = ", ".join(f"{n} × {status}" for status, n in Counter(statuses).items())
    return [*bounds, Bound("exit statuses", counts, "0", set(statuses) == {0})]


def kill_worker(bundle: Path, folder: Path, kills: int) -> list[Bound]:
    """Kill one of two workers; the server starts another in its place."""
    with (
        private_redis() as redis,
        ServerProcess(bundle, redis, folder / "workers.log", RECSYS_WORKERS="2") as server,
    ):

        def die() -> None:
            workers = family(server.pid)[1:]
            os.kill(workers[0], signal.SIGKILL)
            while len(set(family(server.pid)[1:]) - {workers[0]}) < 2:
                time.sleep(0.1)

        return uvloop.run(_measured(bundle, server, die, kills, lossless=True))


def shift_clocks(bundle: Path, folder: Path) -> list[Bound]:
    """Let the clocks of server and Redis jump by minutes and days, if libfaketime is installed.

    No jump ahead is longer than the idle time of a session, since that would end sessions.
    """
    if FAKE_TIME is None:
        return [Bound("not measured", "libfaketime is not installed (apt install libfaketime)")]
    clock = folder / "clock"
    clock.write_text("+0\n")
    jumps = iter(JUMPS)
    faked = {
        **{"LD_PRELOAD": str(FAKE_TIME), "FAKETIME_TIMESTAMP_FILE": str(clock)},
        **{"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
    }
    redis = RedisServer(folder, environment=faked)
    redis.start()
    try:
        with ServerProcess(bundle, redis.url, folder / "clock.log", **faked) as server:

            def jump() -> None:
                clock.write_text(f"{next(jumps):+d}\n")

            bounds = uvloop.run(_measured(bundle, server, jump, len(JUMPS), lossless=True))
            with redis.client() as client:
                offset = client.time()[0] - time.time()
    finally:
        redis.kill()
    jumped = abs(offset - JUMPS[-1]) < 60
    return [*bounds, Bound("Redis's clock is off by", f"{offset / 3600:+.1f} h", "as set", jumped)]


def kill_redis(bundle: Path, folder: Path, kills: int, *, always: bool) -> list[Bound]:
    """Kill Redis and start it again; `always`: it writes each click to disk before it answers."""
    with (
        own_redis(*(DURABLE if always else EVERY_SECOND)) as redis,
        ServerProcess(bundle, redis.url, folder / "kills.log") as server,
    ):

        def die() -> None:
            redis.kill()
            redis.start()

        return uvloop.run(_measured(bundle, server, die, kills, lossless=always))


def cut_power(bundle: Path, folder: Path, kills: int) -> list[Bound]:
    """Kill Redis and also cut off what its log grew by in the last second.

    After the end of a process, the kernel still writes its data to the disk. When the machine
    itself loses power, that data is lost too; `everysec` limits the loss to about a second.
    """
    with (
        own_redis(*EVERY_SECOND) as redis,
        ServerProcess(bundle, redis.url, folder / "kills.log") as server,
    ):

        def die() -> None:
            log = max(redis.folder.rglob("*.aof"), key=lambda path: path.stat().st_size)
            before = log.stat().st_size
            time.sleep(1)
            redis.kill()
            os.truncate(log, before)
            redis.start()

        return uvloop.run(_measured(bundle, server, die, kills, lossless=False))


async def _measured(
    bundle: Path, server: ServerProcess, die: Callable[[], None], kills: int, *, lossless: bool
) -> list[Bound]:
    clicks = ClickRequests(open_predictor(bundle).catalogue.item_ids[:100])
    load, draw = SteadyLoad("127.0.0.1", server.port, RATE, clicks), Random(1)
    async with load.running():
        for _ in range(kills):
            await asyncio.sleep(1.5 + draw.random())  # leave Redis alone for a second
            await asyncio.to_thread(die)
        await asyncio.sleep(1)
    rest = [each.request for each in load.responses if not acknowledged(each)]
    later = [await _until_acknowledged(load, request) for request in rest]
    stored = await stored_events(server, {user_of(each.request) for each in load.responses})
    return _bounds(load.responses, sum(later), stored, kills, lossless=lossless)


async def _until_acknowledged(load: SteadyLoad, request: LoadRequest) -> bool:
    for _ in range(MOST_REPEATS):
        if acknowledged(await load.send(request)):
            return True
        await asyncio.sleep(0.05)
    return False


async def stored_events(server: ServerProcess, users: set[str]) -> "Counter[str]":
    """Count how often the service shows each event id."""
    client = QuickClient("127.0.0.1", server.port)
    events: Counter[str] = Counter()
    for user in users:
        while (answer := await client.get(f"/v1/users/{user}")).status_code != 200:
            await asyncio.sleep(0.05)
        events.update(click["event_id"] for click in answer.json()["clicks"])
    client.close()
    return events


def _bounds(
    responses: Sequence[LoadResponse],
    later: int,
    stored: "Counter[str]",
    kills: int,
    *,
    lossless: bool,
) -> list[Bound]:
    safe = [event for each in responses if acknowledged(each) for event in events_of(each.request)]
    lost = [event for event in safe if event not in stored]
    doubled = [event for event, times in stored.items() if times > 1]
    sent = {event for each in responses for event in events_of(each.request)}
    missing = sent - set(stored) - set(lost)
    statuses = Counter(each.status for each in responses)
    rest = sum(not acknowledged(each) for each in responses)
    counts = ", ".join(f"{n:,} × {status or 'broken'}" for status, n in sorted(statuses.items()))
    return [
        Bound("kills", str(kills)),
        Bound("answers", counts, "200, 503 or broken", set(statuses) <= {0, 200, 503}),
        Bound(
            f"of {len(safe):,} acknowledged clicks, lost",
            str(len(lost)),
            "0" if lossless else "",
            not lost or not lossless,
        ),
        Bound("in Redis twice", str(len(doubled)), "0", not doubled),
        Bound(
            f"of {rest:,} not acknowledged, stored when sent again",
            f"{later:,}; missing {len(missing)}",
            "all",
            later == rest and not missing,
        ),
    ]
