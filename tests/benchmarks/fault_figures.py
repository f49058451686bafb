"""Measure answers and latencies of the service during each fault of Redis.

    python tests/benchmarks/fault_figures.py                      # trains a small shop first
    python tests/benchmarks/fault_figures.py --bundle runs/shop   # uses this bundle

Runs one service process with the default limits, a real Redis that writes every click to disk, and
a fault-injecting proxy between them. Every API call is made ten times a second. For each fault the
table shows how many answers were as documented, the latencies (from the due time of a call), and
the seconds until a click was stored again. Afterwards the clicks of all users are checked. The exit
status is 1 if a promise is broken.
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
EVERY_SECONDS = 0.1  # interval between two rounds of all calls
P99_MS, RECOVERY_SECONDS = 150.0, 5.0  # promised
DEFAULTS = {"RECSYS_REDIS_TIMEOUT_MS": 50, "RECSYS_REDIS_BUDGET_MS": 100, "RECSYS_DEADLINE_MS": 150}


@dataclass(frozen=True, slots=True)
class FaultResult:
    """Measurements during one fault."""

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

    def keeps_promises(self, patience: float) -> bool:
        """Return whether all promises hold, with limits multiplied by `patience`."""
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
    fault: Annotated[
        list[str] | None, typer.Option(help="Only this fault; can be repeated. Default: all.")
    ] = None,
    patience: Annotated[float, typer.Option(help="Factor for limits and promises.")] = 1.0,
) -> None:
    """Cause each fault of Redis under load and print a table."""
    with contextlib.ExitStack() as stack:
        if bundle is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            with console.status("Training a small shop"):
                bundle = small_shop(folder)
        faults = [one for one in FAULTS if fault is None or one.name in fault]
        if fault is not None and len(faults) < len(fault):
            raise typer.BadParameter(f"The faults are: {', '.join(one.name for one in FAULTS)}.")
        all_kept = asyncio.run(measure_all(bundle, faults, seconds, patience))
    raise typer.Exit(0 if all_kept else 1)


async def measure_all(
    bundle: Path, faults: Sequence[Fault], seconds: float, patience: float
) -> bool:
    table = Table("fault", "calls", "as documented", "p50 ms", "p99 ms", "max ms", "recovered s")
    all_kept = True
    with own_redis(*DURABLE) as server:
        async with (
            ChaosProxy(free_port(), server.port) as proxy,
            service(bundle, proxy, patience) as url,
        ):
            client = QuickClient(*address(url))
            for fault in (None, *faults):
                with console.status(fault.name if fault else "no fault"):
                    row = await measure(fault, client, proxy, server, seconds)
                table.add_row(*row.cells)
                all_kept = all_kept and row.keeps_promises(patience)
            client.close()
            console.print(table)
    return all_kept


@contextlib.asynccontextmanager
async def service(bundle: Path, proxy: ChaosProxy, patience: float) -> AsyncIterator[str]:
    """Run the service and yield its URL; start it in a thread, as the proxy runs in this one."""
    limits = {name: f"{ms * patience:.0f}" for name, ms in DEFAULTS.items()}
    process = served(bundle, f"redis://127.0.0.1:{proxy.port}", None, **limits)
    url = await asyncio.to_thread(process.__enter__)
    try:
        yield url
    finally:
        await asyncio.to_thread(process.__exit__, None, None, None)


async def measure(
    fault: Fault | None, client: QuickClient, proxy: ChaosProxy, server: RedisServer, seconds: float
) -> FaultResult:
    """Make all calls during the fault, then wait for the recovery."""
    with server.client() as redis:
        redis.flushall()
    caller = ApiCaller(client)
    rounds = round(seconds / EVERY_SECONDS)
    await caller.prepare(rounds)
    gc.collect()
    gc.freeze()  # a garbage collection of 150 ms would distort all latencies
    if fault is None:
        answers = await paced(caller, rounds)
    else:
        async with fault.inject(proxy, server):
            answers = await paced(caller, rounds)
    recovered = await recovery(caller)
    await caller.check()  # raises if a click is lost or doubled
    allowed = sum(answer.is_allowed and truthful(answer, fault) for answer in answers)
    p50, p99, most = np.percentile([a.seconds * 1000 for a in answers], (50, 99, 100))
    name = fault.name if fault else "none"
    return FaultResult(name, len(answers), allowed, float(p50), float(p99), float(most), recovered)


def truthful(answer: CallResult, fault: Fault | None) -> bool:
    """Return whether the answer claims only what is possible during the fault."""
    if fault is None:
        return all(not listed["degraded"] for listed in answer.lists)
    cannot_store = fault.stored is False and answer.call != "click without event id"
    return all(
        not (cannot_store and listed["stored"]) and not (fault.degraded and not listed["degraded"])
        for listed in answer.lists
    )


async def paced(caller: ApiCaller, rounds: int) -> list[CallResult]:
    """Make all calls at a fixed interval, whether or not earlier ones are answered."""
    began = time.perf_counter()
    under_way = []
    for at in range(rounds):
        await asyncio.sleep(max(began + at * EVERY_SECONDS - time.perf_counter(), 0))
        under_way.append(asyncio.create_task(caller.round(EVERY_SECONDS)))
    return [answer for answers in await asyncio.gather(*under_way) for answer in answers]


async def recovery(caller: ApiCaller) -> float:
    """Return the seconds until a click is stored."""
    began = time.perf_counter()
    while not await caller.stores() and time.perf_counter() - began < 60:
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


def address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


if __name__ == "__main__":
    typer.run(main)
