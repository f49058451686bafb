"""kill -9 under load, of the server and of Redis: what was acknowledged is there, once.

Clicks come one by one to the recommendations and in twos to the clicks call, each with an event id.
What was not acknowledged is sent again with the same event id, as a client does, until it is.
Afterwards everybody's clicks are read: an acknowledged one must be there, none may be there twice.
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
from tests.support.service.steady_load import Asked, SteadyLoad, Told

RATE, EACH = 200.0, 30  # requests of a user: all of its clicks stay within the window
EVERY_SECOND = ("--appendonly", "yes", "--appendfsync", "everysec")
MINUTES, DAY = 60, 86_400
JUMPS = [20 * MINUTES, -DAY, 20 * MINUTES - DAY, -2 * DAY, 20 * MINUTES - 2 * DAY]
FAKE_TIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
AGAIN = 60  # times that the rest is sent again


class Clicks:
    """What is clicked: request n is of user n // EACH."""

    def __init__(self, items: Sequence[str]) -> None:
        self._items = items

    def __call__(self, number: int) -> Asked:
        user, item = f"user-{number // EACH}", self._items[number % len(self._items)]
        click = {"item_id": item, "event_id": f"e-{number}"}
        if number % 3:
            return Asked("/v1/recommendations", {"user_id": user, **click})
        also = {"item_id": item, "event_id": f"e-{number}b"}
        return Asked(f"/v1/users/{user}/clicks", {"clicks": [click, also]})


def user_of(asked: Asked) -> str:
    return str(asked.body.get("user_id") or asked.path.split("/")[3])


def events_of(asked: Asked) -> list[str]:
    return [click["event_id"] for click in asked.body.get("clicks", [asked.body])]


def acknowledged(told: Told) -> bool:
    """Not only answered: a list may come although its click could not be stored."""
    return told.status == 200 and bool(told.body.get("stored", True))


def kill_server(bundle: Path, folder: Path, kills: int, workers: int = 1) -> list[Bound]:
    """The server dies and comes back, Redis stays."""
    settings = {"RECSYS_WORKERS": str(workers)}
    with (
        private_redis() as redis,
        ServerProcess(bundle, redis, folder / "kills.log", **settings) as server,
    ):

        def die() -> None:
            server.kill()
            server.start()

        return uvloop.run(_measured(bundle, server, die, kills, lossless=True))


def stop_server(bundle: Path, folder: Path, kills: int) -> list[Bound]:
    """SIGTERM instead: it finishes what it has accepted, and leaves with 0."""
    statuses: list[int] = []
    with (
        private_redis() as redis,
        ServerProcess(bundle, redis, folder / "stops.log") as server,
    ):

        def die() -> None:
            statuses.append(server.stop())
            server.start()

        bounds = uvloop.run(_measured(bundle, server, die, kills, lossless=True))
    found = ", ".join(f"{n} × {status}" for status, n in Counter(statuses).items())
    return [*bounds, Bound("exit statuses", found, "0", set(statuses) == {0})]


def kill_worker(bundle: Path, folder: Path, kills: int) -> list[Bound]:
    """One of two workers dies, and another takes its place."""
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


def turn_the_clock(bundle: Path, folder: Path) -> list[Bound]:
    """The clock of server and Redis jumps by minutes and days, by libfaketime where it is here.

    Never further ahead than a session lives: a jump over the idle time ends sessions, as time does.
    """
    if FAKE_TIME is None:
        return [Bound("not measured", "libfaketime is not here (apt install libfaketime)")]
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
                away = client.time()[0] - time.time()
    finally:
        redis.kill()
    turned = abs(away - JUMPS[-1]) < 60
    return [*bounds, Bound("Redis's clock is off by", f"{away / 3600:+.1f} h", "as told", turned)]


def kill_redis(bundle: Path, folder: Path, kills: int, *, always: bool) -> list[Bound]:
    """Redis dies and comes back, the server stays; always: a click is on disk before the answer."""
    with (
        own_redis(*(DURABLE if always else EVERY_SECOND)) as redis,
        ServerProcess(bundle, redis.url, folder / "kills.log") as server,
    ):

        def die() -> None:
            redis.kill()
            redis.start()

        return uvloop.run(_measured(bundle, server, die, kills, lossless=always))


def cut_power(bundle: Path, folder: Path, kills: int) -> list[Bound]:
    """As `kill_redis`, and what its log grew by in the last second is gone, too.

    A killed process leaves what it wrote to the kernel, which writes it to the disk; where the
    machine itself goes down, that is lost as well. With `everysec` it is written each second.
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
    clicks = Clicks(open_predictor(bundle).catalogue.item_ids[:100])
    load, draw = SteadyLoad("127.0.0.1", server.port, RATE, clicks), Random(1)
    async with load.going_on():
        for _ in range(kills):
            await asyncio.sleep(1.5 + draw.random())  # Redis is left alone for a second
            await asyncio.to_thread(die)
        await asyncio.sleep(1)
    rest = [told.asked for told in load.told if not acknowledged(told)]
    later = [await _until_acknowledged(load, asked) for asked in rest]
    stored = await stored_events(server, {user_of(told.asked) for told in load.told})
    return _bounds(load.told, sum(later), stored, kills, lossless=lossless)


async def _until_acknowledged(load: SteadyLoad, asked: Asked) -> bool:
    for _ in range(AGAIN):
        if acknowledged(await load.ask(asked)):
            return True
        await asyncio.sleep(0.05)
    return False


async def stored_events(server: ServerProcess, users: set[str]) -> "Counter[str]":
    """How many times each event is in Redis, as the service shows it."""
    client = QuickClient("127.0.0.1", server.port)
    found: Counter[str] = Counter()
    for user in users:
        while (answer := await client.get(f"/v1/users/{user}")).status_code != 200:
            await asyncio.sleep(0.05)
        found.update(click["event_id"] for click in answer.json()["clicks"])
    client.close()
    return found


def _bounds(
    told: Sequence[Told], later: int, stored: "Counter[str]", kills: int, *, lossless: bool
) -> list[Bound]:
    safe = [event for each in told if acknowledged(each) for event in events_of(each.asked)]
    lost = [event for event in safe if event not in stored]
    doubled = [event for event, times in stored.items() if times > 1]
    missing = {event for each in told for event in events_of(each.asked)} - set(stored) - set(lost)
    statuses = Counter(each.status for each in told)
    rest = sum(not acknowledged(each) for each in told)
    said = ", ".join(f"{n:,} × {status or 'broken off'}" for status, n in sorted(statuses.items()))
    return [
        Bound("kills", str(kills)),
        Bound("answers", said, "200, 503 or broken off", set(statuses) <= {0, 200, 503}),
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
