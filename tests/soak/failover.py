"""Redis failover under load: by sentinels, behind an address that moves, and on a cluster.

The load is 200 requests a second on `recsys serve` with its default limits. At the promotion, the
keys of the replica are copied to another Redis. A second service reads them there, so this script
does not depend on the storage format. Afterwards the first service must hold each click of the copy
exactly once.
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
from tests.soak.kills import RATE, ClickRequests, acknowledged, events_of, stored_events, user_of
from tests.support.redis.failover import (
    Failover,
    RunningFailover,
    address_failover,
    cluster_failover,
    sentinel_failover,
)
from tests.support.redis.servers import RedisServer, own_redis
from tests.support.service.servers import ServerProcess
from tests.support.service.steady_load import LoadResponse, SteadyLoad

SECRET = "a pepper of this shop"
BEFORE_SECONDS, MOVE_SECONDS, AFTER_SECONDS = 4.0, 1.0, 5.0
BACK_SECONDS = 2.0  # promised, from the moment a writable server can be reached
EXPECTED = {"200 full", "200 degraded", "200 from reads, not stored", "503 of the clicks call"}
DEPLOYMENTS: dict[str, Callable[[], RunningFailover]] = {
    "sentinel": sentinel_failover,
    "address": partial(address_failover, MOVE_SECONDS),
    "cluster": partial(cluster_failover, SECRET),
}


def _copy_keys(into: RedisServer, replica: RedisServer) -> None:
    """Copy all keys with their time to live."""
    with replica.client() as source, into.client() as target:
        names = list(source.scan_iter(count=10_000))
        reading = source.pipeline(transaction=False)
        for name in names:
            reading.dump(name)
            reading.pttl(name)
        results = reading.execute()
        for name, value, ttl_ms in zip(names, results[::2], results[1::2], strict=True):
            if value is not None:
                target.restore(name, max(ttl_ms, 0), value)


def fail_over(bundle: Path, folder: Path, opened: Callable[[], RunningFailover]) -> list[Bound]:
    return uvloop.run(_measured(bundle, folder, opened()))


async def _measured(bundle: Path, folder: Path, opened: RunningFailover) -> list[Bound]:
    settings = {"RECSYS_USER_ID_SECRET": SECRET}
    with ExitStack() as stack:
        copy = stack.enter_context(own_redis())
        async with opened as setup:
            server = ServerProcess(bundle, setup.url, folder / "failover.log", **settings)
            reader = ServerProcess(bundle, copy.url, folder / "reader.log", **settings)
            for process in (server, reader):
                stack.push(lambda *_, process=process: process.__exit__())
                await asyncio.to_thread(process.start)
            clicks = ClickRequests(open_predictor(bundle).catalogue.item_ids[:100])
            load = SteadyLoad("127.0.0.1", server.port, RATE, clicks)
            async with load.running():
                await asyncio.sleep(BEFORE_SECONDS)
                began = time.perf_counter()
                back = await asyncio.to_thread(
                    setup.fail, lambda replica: _copy_keys(copy, replica)
                )
                await asyncio.sleep(AFTER_SECONDS)
            users = {user_of(response.request) for response in load.responses}
            copied = await stored_events(reader, users)
            stored = await stored_events(server, users)
            for process in (server, reader):
                await asyncio.to_thread(process.stop)
        return _bounds(load.responses, setup, began, back, copied, stored)


def _bounds(
    responses: Sequence[LoadResponse],
    setup: Failover,
    began: float,
    back: float,
    copied: "Counter[str]",
    stored: "Counter[str]",
) -> list[Bound]:
    affected = [each for each in responses if setup.affects(user_of(each.request))]
    others = [each for each in responses if not setup.affects(user_of(each.request))]
    again = min(
        (each.received_at for each in affected if each.received_at > back and acknowledged(each)),
        default=None,
    )
    # none of these can have been stored before the server could be reached
    refused = [each for each in affected if each.received_at > began and not acknowledged(each)]
    seconds = float("inf") if again is None else again - back
    last = max((each.received_at for each in refused), default=began) - back
    kinds = Counter(_kind(each) for each in responses)
    counts = ", ".join(f"{count:,} × {kind}" for kind, count in sorted(kinds.items()))
    disturbed = Counter(kind for each in others if (kind := _kind(each)) != "200 full")
    missing = [event for event in copied if event not in stored]
    doubled = [event for event, times in stored.items() if times > 1]
    safe = [e for each in responses if acknowledged(each) for e in events_of(each.request)]
    with_primary = sum(event not in stored for event in safe)
    longest = max(each.seconds for each in responses) * 1000
    bounds = [
        Bound("answers", counts, "none is refused or fails", set(kinds) <= EXPECTED),
        Bound("longest answer", f"{longest:.0f} ms"),
        Bound("from the failure to a reachable writable server", f"{back - began:.2f} s"),
        Bound(
            "from there to the first stored click",
            f"{seconds:.2f} s",
            f"< {BACK_SECONDS:.0f} s",
            seconds < BACK_SECONDS,
        ),
        Bound(
            "from there to the last click that is not stored",
            f"{last:.2f} s",
            f"< {BACK_SECONDS:.0f} s",
            last < 2,
        ),
        Bound(
            f"of {len(copied):,} clicks in the replica at its promotion, missing",
            str(len(missing)),
            "0",
            bool(copied) and not missing,
        ),
        Bound("stored twice", str(len(doubled)), "0", not doubled),
        Bound(f"of {len(safe):,} acknowledged clicks, lost with the primary", str(with_primary)),
    ]
    if others:
        not_full = ", ".join(f"{n} × {kind}" for kind, n in disturbed.items()) or "0"
        name = f"of {len(others):,} answers to users of the other primaries, not full"
        bounds.append(Bound(name, not_full, "0", not disturbed))
    return bounds


def _kind(response: LoadResponse) -> str:
    """Name the kind of a response. Only the call that adds clicks may be answered with 503."""
    if response.status == 503 and response.request.path.startswith("/v1/users/"):
        return "503 of the clicks call"
    if response.status != 200:
        return f"{response.status}: {response.body.get('detail', 'connection broken')}"
    if response.body.get("degraded"):
        return "200 degraded"
    return "200 full" if acknowledged(response) else "200 from reads, not stored"
