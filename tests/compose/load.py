"""Load on a project's gateway: what `recsys bench` measures, and visits to the served items."""

import io
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from recsys.bundle.layout import ITEMS
from recsys.bundle.registry import resolve_bundle
from recsys.catalogue.catalogue import read_catalogue
from service.bench.command import BenchOptions, bench
from service.bench.report import Measured
from service.bench.workload import BenchClick, drawn
from tests.compose.project import Project, run

CONNECTIONS = 32
BLOCK_SECONDS = 5.0  # of load that lasts as long as something else does


def visits(project: Project) -> Iterator[BenchClick]:
    """Drawn by popularity from the items of the bundle that the shelf names now."""
    with tempfile.TemporaryDirectory() as folder:
        run(["docker", "cp", f"{project.containers('api')[0]}:/bundles", folder])
        catalogue = read_catalogue(resolve_bundle(Path(folder) / "bundles") / ITEMS)
        ids = catalogue.item_ids.take(catalogue.by_popularity.tolist())
    return drawn(ids, visitors=500, popularity=0.8, length=1.5, seed=time.time_ns() % 2**32)


def load(project: Project, clicks: Iterator[BenchClick], rate: float, seconds: float) -> Measured:
    options = BenchOptions(
        project.url, rate, seconds, warmup=0, connections=CONNECTIONS, measure_ceiling=False
    )
    return bench(options, clicks, Console(file=io.StringIO()))


@contextmanager
def under_load(project: Project, rate: float) -> Iterator[list[Measured]]:
    """Blocks of load, one after the other, until the body and the block under way have ended."""
    clicks, blocks, goes_on = visits(project), [], [True]

    def keep_on() -> None:
        while goes_on:
            blocks.append(load(project, clicks, rate, BLOCK_SECONDS))

    with ThreadPoolExecutor(1) as pool:
        done: Future[None] = pool.submit(keep_on)
        try:
            yield blocks
        finally:
            goes_on.clear()
            done.result()


def failures(blocks: list[Measured]) -> dict[str, int]:
    """What went wrong in all of them, counted."""
    found: dict[str, int] = {}
    for block in blocks:
        for what, times in block.errors.items():
            found[what] = found.get(what, 0) + times
    return found
