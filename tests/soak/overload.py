"""Three times the capacity of a service: it refuses the surplus at once.

The model is slowed down (`slow_server.py`), so that neither the load generator nor HTTP is the
limit. The generator is that of `recsys bench --rate`: latencies count from the due time of a
request. Each connection has its turn about once a second, so that no visitor sends a request before
the last one is answered.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import orjson
import uvloop

from recsys.bundle.golden import open_predictor
from service.bench.command import PATH
from service.bench.connection import post
from service.bench.pace import OK, Request, Samples, paced, saturating
from service.server.embedded_redis import private_redis
from tests.soak.bounds import Bound
from tests.support.processes import start_fork
from tests.support.service.servers import ServerProcess
from tests.support.service.slow_server import slow_down

REFUSED = 503
CONNECTIONS, FEW = 450, 48  # FEW: enough for full load
CAPACITY_SECONDS, BACK_SECONDS, AFTER_SECONDS = 10.0, 2.0, 10.0
# shares of the capacity: offered load, minimum goodput, load afterwards
TIMES, GOODPUT, CALM = 3.0, 0.8, 0.8
ACCEPTED_MS, REFUSED_MS = 250.0, 50.0


def overload(bundle: Path, folder: Path, seconds: float, slow_ms: float) -> list[Bound]:
    start = partial(start_fork, prepare=partial(slow_down, slow_ms / 1000))
    with (
        private_redis() as redis,
        ServerProcess(bundle, redis, folder / "overload.log", start) as server,
    ):
        items = open_predictor(bundle).catalogue.item_ids[:100]
        return uvloop.run(_measured(server.port, items, seconds))


async def _measured(port: int, items: Sequence[str], seconds: float) -> list[Bound]:
    at = ("127.0.0.1", port)
    few = _requests(port, items, FEW)
    busy = await saturating(few, *at, seconds=CAPACITY_SECONDS, connections=FEW)
    capacity = busy.succeeded / busy.seconds

    many = _requests(port, items, CONNECTIONS)
    under = await _paced(many, at, TIMES * capacity, seconds)
    await _paced(many, at, CALM * capacity, BACK_SECONDS)
    after = await _paced(many, at, CALM * capacity, AFTER_SECONDS)
    return _bounds(capacity, under, after)


def _requests(port: int, items: Sequence[str], connections: int) -> list[Request]:
    """Return one request for each connection, in order, of a user whose requests go there."""
    users: dict[int, str] = {}
    number = 0
    while len(users) < connections:
        user = f"visitor-{number}"
        users.setdefault(crc32(user.encode()) % connections, user)
        number += 1
    requests = []
    for at in range(connections):
        body = orjson.dumps({"user_id": users[at], "item_id": items[at % len(items)]})
        requests.append(Request(users[at], post("127.0.0.1", port, PATH, body, {})))
    return requests


async def _paced(
    requests: Sequence[Request], at: tuple[str, int], rate: float, seconds: float
) -> Samples:
    planned = [requests[n % len(requests)] for n in range(round(rate * seconds))]
    return await paced(planned, *at, rate=rate, connections=len(requests))


def _bounds(capacity: float, under: Samples, after: Samples) -> list[Bound]:
    good, refused = _ms(under, OK), _ms(under, REFUSED)
    goodput = len(good) / under.seconds / capacity
    others = under.answered - len(good) - len(refused) + under.unanswered
    p99, p50 = np.percentile(good, 99), np.percentile(good, 50)
    p99_refused = np.percentile(refused, 99) if len(refused) else 0.0
    back = after.succeeded / max(after.planned, 1)
    p99_after = np.percentile(_ms(after, OK), 99)
    late = np.percentile(under.late, 99) * 1000
    return [
        Bound("capacity", f"{capacity:.0f}/s"),
        Bound(
            "offered", f"{under.planned / under.seconds:.0f}/s; generator late, p99 {late:.1f} ms"
        ),
        Bound("goodput, of the capacity", f"{goodput:.0%}", f"≥ {GOODPUT:.0%}", goodput >= GOODPUT),
        Bound(
            "accepted, p50 and p99",
            f"{p50:.0f}, {p99:.0f} ms",
            f"p99 < {ACCEPTED_MS:.0f} ms",
            bool(p99 < ACCEPTED_MS),
        ),
        Bound(
            f"refused: {len(refused):,}, p99 and longest",
            f"{p99_refused:.1f}, {max(refused, default=0):.0f} ms",
            f"p99 < {REFUSED_MS:.0f} ms",
            bool(p99_refused < REFUSED_MS),
        ),
        Bound("neither 200 nor 503", f"{others}", "0", others == 0),
        Bound(
            f"answered at {CALM:.0%} of the capacity, {BACK_SECONDS:.0f} s later",
            f"{back:.1%}, p99 {p99_after:.0f} ms",
            f"all, p99 < {ACCEPTED_MS:.0f} ms",
            back == 1.0 and bool(p99_after < ACCEPTED_MS),
        ),
    ]


def _ms(samples: Samples, status: int) -> list[float]:
    pairs = zip(samples.status, samples.latency, strict=True)
    return [seconds * 1000 for received, seconds in pairs if received == status]
