"""Measure the service by size of the catalogue, and its highest rate within a latency bound.

    python tests/benchmarks/serving_sizes.py sizes runs/10k/bundle runs/100k/bundle
    python tests/benchmarks/serving_sizes.py capacity --bundle runs/100k/bundle --kind exact

Both start a private Redis and the service, by default with one worker, and use `recsys bench`, as
tests/benchmarks/serving.py does.
"""

import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from recsys.bundle.manifest import read_manifest
from service.server.embedded_redis import private_redis
from tests.benchmarks import serving
from tests.benchmarks.retrieval_variant import write_variant
from tests.support.service.processes import family, resident
from training.report.charts import Line, line_chart

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
RATE_FACTOR = 1.25  # between two rates
HELD = 0.98  # minimum share of the requested rate


@app.command()
def sizes(
    bundles: list[Path],
    seconds: float = 8.0,
    workers: serving.Workers = 1,
    picture: Annotated[Path | None, typer.Option(help="SVG of rate and latency.")] = None,
) -> None:
    """Measure latency of 1 client, throughput of 32, memory and start time for each bundle."""
    table = Table(
        "items",
        "retrieval",
        "p50, 1 client",
        "p99",
        "requests/s of 32",
        "p90",
        "rss",
        "private",
        "ready",
    )
    rates, waits = [], []
    for bundle in bundles:
        manifest = read_manifest(bundle)
        with private_redis() as redis, serving.service(bundle, redis, workers) as ours:
            alone = serving.bench(bundle, ours.url, seconds=seconds, connections=1)
            many = serving.bench(bundle, ours.url, seconds=seconds, connections=32)
            memory = [resident(pid) for pid in family(ours.pid)]
            rss, private = sum(one.rss for one in memory), sum(one.private for one in memory)
            table.add_row(
                f"{manifest.size.items:,}", manifest.retrieval.kind,
                f"{alone['p50']:.2f} ms", f"{alone['p99']:.2f} ms",
                f"{many['rate']:,.0f}", f"{many['p90']:.1f} ms",
                f"{rss:,.0f} MB", f"{private:,.0f} MB", f"{ours.ready_s:.1f} s",
            )  # fmt: skip
        rates.append((manifest.size.items, many["rate"]))
        waits.append((manifest.size.items, many["p90"]))
    console.print(table)
    if picture is not None:
        lines = [Line("requests/s", rates), Line("p90, ms", waits)]
        title = "32 clients, by size of the catalogue"
        chart = line_chart(lines, title=title, x_label="items", y_label="", log=True)
        picture.write_text(_standing_alone(str(chart)), encoding="utf-8")


def _standing_alone(chart: str) -> str:
    """Return the chart as a file of its own, with the report's colours."""
    templates = files("training.report") / "templates"
    style = (templates / "report.css").read_text(encoding="utf-8")
    start, rest = chart.split(">", 1)
    return f"{start}><style>{style} svg {{ background: var(--paper) }}</style>{rest}\n"


@app.command()
def capacity(
    bundle: serving.Bundle,
    kind: Annotated[str, typer.Option(help="exact, int8; or as it is.")] = "as it is",
    p90: Annotated[float, typer.Option(help="Bound of the 90th percentile, ms.")] = 50.0,
    start: float = 20.0,
    seconds: float = 8.0,
    connections: int = 64,
    workers: serving.Workers = 1,
) -> None:
    """Raise the rate by a quarter each time until the service exceeds the bound."""
    with tempfile.TemporaryDirectory(dir=bundle.parent) as folder:
        served = (
            bundle if kind == "as it is" else write_variant(bundle, kind, Path(folder) / "bundle")
        )
        held, rate = 0.0, start
        with private_redis() as redis, serving.service(served, redis, workers) as ours:
            while True:
                result = serving.bench(
                    bundle, ours.url, rate=rate, seconds=seconds, connections=connections
                )
                console.print(f"{rate:,.0f} requested: {serving.line(result)}")
                if result["errors"] or result["p90"] > p90 or result["rate"] < HELD * rate:
                    break
                held, rate = rate, rate * RATE_FACTOR
        items = read_manifest(bundle).size.items
        console.print(f"{items:,} items, {kind}: {held:,.0f} requests/s within p90 {p90:g} ms")


if __name__ == "__main__":
    app()
