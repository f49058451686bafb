"""A failover under load: by sentinels, behind an address that moves, on a cluster; with times.

200 requests a second, on `recsys serve` with its default limits. The keys of the replica are copied
to another Redis at its promotion; a second service reads them there, so that this script need not
know how clicks are stored. Afterwards each click of the copy must be in the first service, once.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import uvloop

from recsys.bundle.golden import open_predictor
from tests.soak.bounds import Bound
from tests.soak.kills import RATE, Clicks, acknowledged, events_of, stored_events, user_of
from tests.support.redis.failover import (
    Failover,
    RunningFailover,
    address_failover,
    cluster_failover,
    sentinel_failover,
)
from tests.support.redis.servers import RedisServer, own_redis
from tests.support.service.servers import ServerProcess
from tests.support.service.steady_load import SteadyLoad, Told

SECRET = "a pepper of this shop"
BEFORE_SECONDS, MOVE_SECONDS, AFTER_SECONDS = 4.0, 1.0, 5.0
BACK_SECONDS = 2.0  # promised, from when a writable server is there
EXPECTED = {
    "200 full",
    "200 degraded",
    "200 from reads, not stored",
    "503 of the clicks call",
}
DEPLOYMENTS: dict[str, Callable[[], RunningFailover]] = {
    "sentinel": sentinel_failover,
    "address": partial(address_failover, MOVE_SECONDS),
    "cluster": partial(cluster_failover, SECRET),
}


def _copied(into: RedisServer, replica: RedisServer) -> None:
    """Copy all keys, with the time they have to live."""
    with replica.client() as there, into.client() as here:
        names = list(there.scan_iter(count=10_000))
        reading = there.pipeline(transaction=False)
        for name in names:
            reading.dump(name)
            reading.pttl(name)
        found = reading.execute()
        for name, value, left in zip(names, found[::2], found[1::2], strict=True):
            if value is not None:
                here.restore(name, max(left, 0), value)


def fail_over(bundle: Path, folder: Path, opened: Callable[[], RunningFailover]) -> list[Bound]:
    return uvloop.run(_measured(bundle, folder, opened()))


async def _measured(bundle: Path, folder: Path, opened: RunningFailover) -> list[Bound]:
    given = {"RECSYS_USER_ID_SECRET": SECRET}
    with ExitStack() as stack:
        copy = stack.enter_context(own_redis())
        async with opened as redis:
            server = ServerProcess(bundle, redis.url, folder / "failover.log", **given)
            reader = ServerProcess(bundle, copy.url, folder / "reader.log", **given)
            for process in (server, reader):
                stack.push(lambda *_, process=process: process.__exit__())
                await asyncio.to_thread(process.start)
            clicks = Clicks(open_predictor(bundle).catalogue.item_ids[:100])
            load = SteadyLoad("127.0.0.1", server.port, RATE, clicks)
            async with load.going_on():
                await asyncio.sleep(BEFORE_SECONDS)
                began = time.perf_counter()
                back = await asyncio.to_thread(redis.fail, lambda replica: _copied(copy, replica))
                await asyncio.sleep(AFTER_SECONDS)
            users = {user_of(told.asked) for told in load.told}
            copied = await stored_events(reader, users)
            stored = await stored_events(server, users)
            for process in (server, reader):
                await asyncio.to_thread(process.stop)
        return _bounds(load.told, redis, began, back, copied, stored)


def _bounds(
    told: Sequence[Told],
    redis: Failover,
    began: float,
    back: float,
    copied: "Counter[str]",
    stored: "Counter[str]",
) -> list[Bound]:
    mine = [each for each in told if redis.affects(user_of(each.asked))]
    others = [each for each in told if not redis.affects(user_of(each.asked))]
    again = min((each.at for each in mine if each.at > back and acknowledged(each)), default=None)
    # before the server could be reached none of these can have been stored
    refused = [each for each in mine if each.at > began and not acknowledged(each)]
    seconds = float("inf") if again is None else again - back
    last = max((each.at for each in refused), default=began) - back
    kinds = Counter(_kind(each) for each in told)
    said = ", ".join(f"{count:,} × {kind}" for kind, count in sorted(kinds.items()))
    disturbed = Counter(kind for each in others if (kind := _kind(each)) != "200 full")
    missing = [event for event in copied if event not in stored]
    doubled = [event for event, times in stored.items() if times > 1]
    safe = [e for each in told if acknowledged(each) for e in events_of(each.asked)]
    with_primary = sum(event not in stored for event in safe)
    longest = max(each.seconds for each in told) * 1000
    bounds = [
        Bound("answers", said, "none is refused or fails", set(kinds) <= EXPECTED),
        Bound("longest answer", f"{longest:.0f} ms"),
        Bound("from the failure to a writable server in reach", f"{back - began:.2f} s"),
        Bound(
            "from then to the first click that is stored",
            f"{seconds:.2f} s",
            f"< {BACK_SECONDS:.0f} s",
            seconds < BACK_SECONDS,
        ),
        Bound("to the last that is not", f"{last:.2f} s", f"< {BACK_SECONDS:.0f} s", last < 2),
        Bound(
            f"of {len(copied):,} clicks in the replica at its promotion, missing",
            str(len(missing)),
            "0",
            bool(copied) and not missing,
        ),
        Bound("stored twice", str(len(doubled)), "0", not doubled),
        Bound(f"of {len(safe):,} acknowledged, gone with the primary", str(with_primary)),
    ]
    if others:
        counts = ", ".join(f"{n} × {kind}" for kind, n in disturbed.items()) or "0"
        what = f"of {len(others):,} answers to users of the other primaries, not full"
        bounds.append(Bound(what, counts, "0", not disturbed))
    return bounds


def _kind(told: Told) -> str:
    """Name an answer by what it says; lists are always 200, only the clicks call may say 503."""
    if told.status == 503 and told.asked.path.startswith("/v1/users/"):
        return "503 of the clicks call"
    if told.status != 200:
        return f"{told.status}: {told.body.get('detail', 'broken off')}"
    if told.body.get("degraded"):
        return "200 degraded"
    return "200 full" if acknowledged(told) else "200 from reads, not stored"
