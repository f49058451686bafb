"""Load on the gateway of a project, generated and measured by `recsys bench`."""

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
from service.bench.report import BenchResult
from service.bench.workload import BenchClick, sample_clicks
from tests.compose.project import Project, run

CONNECTIONS = 32
BLOCK_SECONDS = 5.0  # length of one measurement under load


def visits(project: Project) -> Iterator[BenchClick]:
    """Draw visits by popularity from the items of the current bundle."""
    with tempfile.TemporaryDirectory() as folder:
        run(["docker", "cp", f"{project.containers('api')[0]}:/bundles", folder])
        catalogue = read_catalogue(resolve_bundle(Path(folder) / "bundles") / ITEMS)
        ids = catalogue.item_ids.take(catalogue.by_popularity.tolist())
    return sample_clicks(ids, visitors=500, popularity=0.8, length=1.5, seed=time.time_ns() % 2**32)


def load(
    project: Project, clicks: Iterator[BenchClick], rate: float, seconds: float
) -> BenchResult:
    options = BenchOptions(
        project.url, rate, seconds, warmup=0, connections=CONNECTIONS, measure_ceiling=False
    )
    return bench(options, clicks, Console(file=io.StringIO()))


@contextmanager
def under_load(project: Project, rate: float) -> Iterator[list[BenchResult]]:
    """Yield a list of load measurements that grows until the body has ended."""
    clicks, blocks, running = visits(project), [], [True]

    def measure_blocks() -> None:
        while running:
            blocks.append(load(project, clicks, rate, BLOCK_SECONDS))

    with ThreadPoolExecutor(1) as pool:
        done: Future[None] = pool.submit(measure_blocks)
        try:
            yield blocks
        finally:
            running.clear()
            done.result()


def failures(blocks: list[BenchResult]) -> dict[str, int]:
    """Count the errors of all measurements by kind."""
    counts: dict[str, int] = {}
    for block in blocks:
        for kind, times in block.errors.items():
            counts[kind] = counts.get(kind, 0) + times
    return counts
