"""What a service process says and how quickly, while each thing that can happen to Redis happens.

    python tests/benchmarks/fault_figures.py                      # trains a small shop first
    python tests/benchmarks/fault_figures.py --bundle runs/shop   # or takes this one

One process with the limits it has by default, a real Redis that writes every click to disk, the
Gremlin between them, and every call of the API ten times a second. For each fault: how many calls
were not answered as documented, latencies (counted from when a call was due), how long it took
until a click was stored again, and a look at everybody's clicks. Ends with 1 where a promise is
broken.
"""

import asyncio
import contextlib
import gc
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads stall it

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from service.server.embedded_redis import free_port
from tests.support.bundles.small_shops import small_shop
from tests.support.redis.chaos_proxy import ChaosProxy
from tests.support.redis.faults import FAULTS, Fault
from tests.support.redis.servers import DURABLE, RedisServer, own_redis
from tests.support.service.api_caller import ApiCaller, CallResult
from tests.support.service.quick_client import QuickClient
from tests.support.service.servers import served

console = Console()
EVERY_SECONDS = 0.1  # a round of all calls
P99_MS, RECOVERY_SECONDS = 150.0, 5.0  # promised
DEFAULTS = {
    "RECSYS_REDIS_TIMEOUT_MS": 50,
    "RECSYS_REDIS_BUDGET_MS": 100,
    "RECSYS_DEADLINE_MS": 150,
}


@dataclass(frozen=True, slots=True)
class Row:
    """What one fault did."""

    name: str
    answers: int
    allowed: int
    p50_ms: float
    p99_ms: float
    most_ms: float
    recovered_seconds: float

    @property
    def cells(self) -> list[str]:
        times = (f"{self.p50_ms:.1f}", f"{self.p99_ms:.1f}", f"{self.most_ms:.0f}")
        counts = (f"{self.answers:,}", f"{self.allowed:,}")
        return [self.name, *counts, *times, f"{self.recovered_seconds:.2f}"]

    def is_well(self, patience: float) -> bool:
        """Whether everything promised was kept."""
        quick = self.p99_ms < P99_MS * patience
        return (
            self.allowed == self.answers
            and quick
            and self.recovered_seconds < RECOVERY_SECONDS * patience
        )


Bundle = Annotated[Path | None, typer.Option(help="Bundle folder of the synthetic shop.")]


def main(
    bundle: Bundle = None,
    seconds: float = 5.0,
    fault: Annotated[list[str] | None, typer.Option(help="These only; else all.")] = None,
    patience: Annotated[float, typer.Option(help="Limits and promises, times this.")] = 1.0,
) -> None:
    """Everything that this file's first paragraph says."""
    with contextlib.ExitStack() as stack:
        if bundle is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            with console.status("Training a small shop"):
                bundle = small_shop(folder)
        faults = [one for one in FAULTS if fault is None or one.name in fault]
        if fault is not None and len(faults) < len(fault):
            raise typer.BadParameter(f"The faults are: {', '.join(one.name for one in FAULTS)}.")
        kept = asyncio.run(all_figures(bundle, faults, seconds, patience))
    raise typer.Exit(0 if kept else 1)


async def all_figures(
    bundle: Path, faults: Sequence[Fault], seconds: float, patience: float
) -> bool:
    table = Table("fault", "calls", "as documented", "p50 ms", "p99 ms", "max ms", "recovered s")
    kept = True
    with own_redis(*DURABLE) as server:
        async with (
            ChaosProxy(free_port(), server.port) as gremlin,
            service(bundle, gremlin, patience) as url,
        ):
            client = QuickClient(*address(url))
            for fault in (None, *faults):
                with console.status(fault.name if fault else "nothing happens"):
                    row = await figures(fault, client, gremlin, server, seconds)
                table.add_row(*row.cells)
                kept = kept and row.is_well(patience)
            client.close()
            console.print(table)
    return kept


@contextlib.asynccontextmanager
async def service(bundle: Path, gremlin: ChaosProxy, patience: float) -> AsyncIterator[str]:
    """Its URL; started and ended in a thread, for the Gremlin lives in ours."""
    limits = {name: f"{ms * patience:.0f}" for name, ms in DEFAULTS.items()}
    process = served(bundle, f"redis://127.0.0.1:{gremlin.port}", None, **limits)
    url = await asyncio.to_thread(process.__enter__)
    try:
        yield url
    finally:
        await asyncio.to_thread(process.__exit__, None, None, None)


async def figures(
    fault: Fault | None,
    client: QuickClient,
    gremlin: ChaosProxy,
    server: RedisServer,
    seconds: float,
) -> Row:
    """All calls while it lasts, and then until it is over."""
    with server.client() as redis:
        redis.flushall()
    caller = ApiCaller(client)
    rounds = round(seconds / EVERY_SECONDS)
    await caller.prepare(rounds)
    gc.collect()
    gc.freeze()  # a collection of this process's old objects takes 150 ms, all latencies with it
    if fault is None:
        answers = await paced(caller, rounds)
    else:
        async with fault.inject(gremlin, server):
            answers = await paced(caller, rounds)
    recovered = await recovery(caller)
    await caller.check()  # raises where a click is lost or doubled
    allowed = sum(answer.is_allowed and truthful(answer, fault) for answer in answers)
    p50, p99, most = np.percentile([a.seconds * 1000 for a in answers], (50, 99, 100))
    name = fault.name if fault else "none"
    return Row(name, len(answers), allowed, float(p50), float(p99), float(most), recovered)


def truthful(answer: CallResult, fault: Fault | None) -> bool:
    """Nothing is said to be stored or used that cannot be."""
    if fault is None:
        return all(not found["degraded"] for found in answer.lists)
    stored = fault.stored is False and answer.call != "click without event id"
    return all(
        not (stored and found["stored"]) and not (fault.degraded and not found["degraded"])
        for found in answer.lists
    )


async def paced(caller: ApiCaller, rounds: int) -> list[CallResult]:
    """All calls every so often, whether or not those before are answered."""
    began = time.perf_counter()
    under_way = []
    for at in range(rounds):
        await asyncio.sleep(max(began + at * EVERY_SECONDS - time.perf_counter(), 0))
        under_way.append(asyncio.create_task(caller.round(EVERY_SECONDS)))
    return [answer for found in await asyncio.gather(*under_way) for answer in found]


async def recovery(caller: ApiCaller) -> float:
    """Seconds until a click is stored."""
    began = time.perf_counter()
    while not await caller.stores() and time.perf_counter() - began < 60:
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


def address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


if __name__ == "__main__":
    typer.run(main)
