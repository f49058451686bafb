"""What was measured, as numbers, as a table and as a picture."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.console import neat_table
from service.bench.pace import OK, Samples

BARS = 40  # characters of the longest
BINS_A_DECADE = 6


@dataclass(frozen=True, slots=True)
class Measured:
    """One run; latencies in milliseconds, of every answer, good or not."""

    mode: str
    connections: int
    asked_rate: float | None  # requests/s, None where it was as fast as possible
    rate: float  # good answers a second
    seconds: float
    answers: int
    errors: dict[str, int]  # status, or what happened instead of one
    p50: float
    p90: float
    p99: float
    max: float
    generator_late_p99: float | None  # how far the generator itself was behind its plan
    generator_ceiling: float | None  # requests/s it sends to a server that does nothing

    @property
    def all_good(self) -> bool:
        return not self.errors

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def measured(
    mode: str, samples: Samples, connections: int, rate: float | None, ceiling: float | None
) -> Measured:
    latency = np.array(samples.latency or [np.nan]) * 1e3
    p50, p90, p99 = np.percentile(latency, [50, 90, 99]).tolist()
    errors = {
        "no connection" if status == 0 else str(status): count
        for status, count in Counter(samples.status).items()
        if status != OK
    }
    if samples.unanswered:
        errors["unanswered"] = samples.unanswered
    return Measured(
        mode=mode,
        connections=connections,
        asked_rate=rate,
        rate=samples.good / samples.seconds,
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


def show(result: Measured, latency: Sequence[float], console: Console) -> None:
    table = neat_table(f"{result.mode}, {result.connections} connections", left=[""], right=[""])
    table.show_header = False
    asked = "" if result.asked_rate is None else f" of {result.asked_rate:,.0f} asked"
    table.add_row("good answers a second", f"{result.rate:,.0f}{asked}")
    for name in ("p50", "p90", "p99", "max"):
        table.add_row(name, f"{getattr(result, name):,.2f} ms")
    table.add_row("answers", f"{result.answers:,}")
    errors = ", ".join(f"{count:,} × {what}" for what, count in result.errors.items())
    table.add_row("errors", errors or "none")
    if result.generator_late_p99 is not None:
        table.add_row("generator late, p99", f"{result.generator_late_p99:,.2f} ms")
    if result.generator_ceiling is not None:
        table.add_row("generator alone", f"{result.generator_ceiling:,.0f} requests/s")
    console.print(table)
    console.print(histogram(np.array(latency) * 1e3))


def histogram(milliseconds: np.ndarray) -> Table:
    """Bars over a logarithmic axis of latencies."""
    table = neat_table("Latency", right=["ms", "answers"])
    table.add_column("")
    if not len(milliseconds):
        return table
    low, high = np.log10(max(milliseconds.min(), 1e-3)), np.log10(max(milliseconds.max(), 1e-3))
    bins = max(int(np.ceil((high - low) * BINS_A_DECADE)), 1)
    counts, edges = np.histogram(np.log10(np.maximum(milliseconds, 1e-3)), bins, (low, high + 1e-9))
    for count, start, end in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        bar = "█" * round(BARS * count / max(counts.max(), 1))
        table.add_row(f"{10**start:,.2f} – {10**end:,.2f}", f"{count:,}", Text(bar, "cyan"))
    return table
