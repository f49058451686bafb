"""Result of a bench run, as numbers, as a table and as a histogram."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.console import neat_table
from service.bench.pace import OK, Samples

BAR_WIDTH = 40  # characters of the longest bar
BINS_PER_DECADE = 6


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Result of one run. Latencies are in milliseconds and include failed requests."""

    mode: str
    connections: int
    asked_rate: float | None  # requests/s; None: as fast as possible
    rate: float  # successful answers a second
    seconds: float
    answers: int
    errors: dict[str, int]  # status code, or a reason without one → count
    p50: float
    p90: float
    p99: float
    max: float
    generator_late_p99: float | None  # how late the generator sent its requests
    generator_ceiling: float | None  # requests/s of the generator alone

    @property
    def succeeded(self) -> bool:
        return not self.errors

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def summarize(
    mode: str, samples: Samples, connections: int, rate: float | None, ceiling: float | None
) -> BenchResult:
    """Compute the result of a run from its samples."""
    latency = np.array(samples.latency or [np.nan]) * 1e3
    p50, p90, p99 = np.percentile(latency, [50, 90, 99]).tolist()
    errors = {
        "no connection" if status == 0 else str(status): count
        for status, count in Counter(samples.status).items()
        if status != OK
    }
    if samples.unanswered:
        errors["unanswered"] = samples.unanswered
    return BenchResult(
        mode=mode,
        connections=connections,
        asked_rate=rate,
        rate=samples.succeeded / samples.seconds,
        seconds=samples.seconds,
        answers=samples.answered,
        errors=errors,
        p50=p50,
        p90=p90,
        p99=p99,
        max=float(latency.max()),
        generator_late_p99=float(np.percentile(samples.late, 99)) * 1e3 if samples.late else None,
        generator_ceiling=ceiling,
    )


def show(result: BenchResult, latency: Sequence[float], console: Console) -> None:
    """Print the result and a histogram of the latencies, which are in seconds."""
    table = neat_table(f"{result.mode}, {result.connections} connections", left=[""], right=[""])
    table.show_header = False
    target = "" if result.asked_rate is None else f" of {result.asked_rate:,.0f} requested"
    table.add_row("successful answers a second", f"{result.rate:,.0f}{target}")
    for name in ("p50", "p90", "p99", "max"):
        table.add_row(name, f"{getattr(result, name):,.2f} ms")
    table.add_row("answers", f"{result.answers:,}")
    errors = ", ".join(f"{count:,} × {kind}" for kind, count in result.errors.items())
    table.add_row("errors", errors or "none")
    if result.generator_late_p99 is not None:
        table.add_row("generator late, p99", f"{result.generator_late_p99:,.2f} ms")
    if result.generator_ceiling is not None:
        table.add_row("generator alone", f"{result.generator_ceiling:,.0f} requests/s")
    console.print(table)
    console.print(histogram(np.array(latency) * 1e3))


def histogram(milliseconds: np.ndarray) -> Table:
    """Return a histogram of latencies with a logarithmic axis."""
    table = neat_table("Latency", right=["ms", "answers"])
    table.add_column("")
    if not len(milliseconds):
        return table
    low, high = np.log10(max(milliseconds.min(), 1e-3)), np.log10(max(milliseconds.max(), 1e-3))
    bins = max(int(np.ceil((high - low) * BINS_PER_DECADE)), 1)
    counts, edges = np.histogram(np.log10(np.maximum(milliseconds, 1e-3)), bins, (low, high + 1e-9))
    for count, start, end in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        bar = "█" * round(BAR_WIDTH * count / max(counts.max(), 1))
        table.add_row(f"{10**start:,.2f} – {10**end:,.2f}", f"{count:,}", Text(bar, "cyan"))
    return table
