"""Write a synthetic log of the shape of OTTO's, as a stream: its full size needs no more memory.

    python tests/benchmarks/otto_log.py otto.jsonl                  # 216.7 million events, 12 GB
    python tests/benchmarks/otto_log.py otto.jsonl --scale 0.0625   # a sixteenth
    python tests/benchmarks/otto_log.py otto.parquet --scale 0.01   # one row for each event

JSON lines have OTTO's nested form, one session a line; `.csv` and `.parquet` have the columns
session, aid, ts and type. `--scale` applies to sessions and items alike, so that an item has as
many clicks at every scale: what a model can learn is about the same, and tables grow with the log.

Lengths of sessions are log-normal, from 2 to 500 events with a mean of 16.8. Sessions begin one
after the other within four weeks. A session begins with an item by popularity; each further event
is on one of a few successors of the last item, or else again on an item by popularity.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray

SESSIONS, ITEMS = 12_900_000, 1_860_000  # of OTTO
MOST_EVENTS = 500  # of a session
LENGTH_MU, LENGTH_SIGMA = 2.026, 1.26  # of the logarithm: a mean of 16.8 between 2 and 500
EXPONENT = 0.8  # P(rank r) ∝ r^-0.8
SUCCESSORS = 8  # of an item; each is half as likely as the one before it
FOLLOWED = 0.5  # share of the events on a successor
FIRST_MS, WEEKS_MS = 1_659_304_800_000, 28 * 86_400_000  # August 2022
PAUSE_MU, PAUSE_SIGMA = np.log(40_000), 1.8  # milliseconds between two events, log-normal
TYPES, TYPE_SHARES = ("clicks", "carts", "orders"), (0.90, 0.08, 0.02)
SESSIONS_AT_ONCE = 50_000

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Chunk = tuple[NDArray[np.int64], pa.Table]  # (sessions+1,) offsets, and the events
Sink = Callable[[Chunk], None]


@app.command()
def write(
    out: Annotated[Path, typer.Argument(help="File to write: .jsonl, .csv or .parquet.")],
    scale: Annotated[float, typer.Option(help="Share of OTTO's sessions and items.")] = 1.0,
    seed: int = 1,
) -> None:
    """Write the log."""
    sinks = {".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}
    if out.suffix not in sinks:
        raise typer.BadParameter(f"the file must end in {', '.join(sinks)}, got {out.name}")
    sessions, items = max(round(SESSIONS * scale), 1), max(round(ITEMS * scale), SUCCESSORS)
    events = 0
    with sinks[out.suffix](out) as sink:
        for offsets, table in chunks(sessions, items, seed):
            sink((offsets, table))
            events += len(table)
    typer.echo(f"{events:,} events of {sessions:,} sessions; catalogue of {items:,} items")


def chunks(sessions: int, items: int, seed: int) -> Iterator[Chunk]:
    """Yield the events of some sessions at a time."""
    random = np.random.default_rng(seed)
    ids_of = random.permutation(items).astype(np.int32)  # of ranks by popularity
    successors = _ranks(random, (items, SUCCESSORS), items)
    for first in range(0, sessions, SESSIONS_AT_ONCE):
        numbers = np.arange(first, min(first + SESSIONS_AT_ONCE, sessions))
        lengths = np.exp(random.normal(LENGTH_MU, LENGTH_SIGMA, len(numbers)))
        lengths = lengths.clip(2, MOST_EVENTS).round().astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        ranks = _walk(random, lengths, offsets, successors)
        table = pa.table(
            {
                "session": np.repeat(numbers, lengths),
                "aid": ids_of[ranks],
                "ts": _times(random, numbers / sessions, lengths, offsets),
                "type": _types(random, len(ranks)),
            }
        )
        yield offsets, table


def _ranks(
    random: np.random.Generator, shape: int | tuple[int, ...], items: int
) -> NDArray[np.int32]:
    """Draw ranks of a power law, from the inverse of its distribution."""
    power = 1 - EXPONENT
    drawn = ((items**power - 1) * random.random(shape, dtype=np.float32) + 1) ** (1 / power)
    ranks: NDArray[np.int32] = np.minimum(drawn.astype(np.int32) - 1, items - 1)
    return ranks


def _walk(
    random: np.random.Generator,
    lengths: NDArray[np.int64],
    offsets: NDArray[np.int64],
    successors: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Return the items of all sessions: the first event of each, then the second, and so on."""
    ranks = _ranks(random, int(offsets[-1]), len(successors))  # where no successor is followed
    longest_first = np.argsort(-lengths, kind="stable")
    starts = offsets[:-1][longest_first]
    going = len(lengths) - np.cumsum(np.bincount(lengths, minlength=MOST_EVENTS + 1))
    for step in range(1, int(lengths.max())):
        at = starts[: going[step]] + step
        at = at[random.random(len(at), dtype=np.float32) < FOLLOWED]
        likely_first = random.geometric(0.5, len(at)).clip(max=SUCCESSORS) - 1
        ranks[at] = successors[ranks[at - 1], likely_first]
    return ranks


def _times(
    random: np.random.Generator,
    begins: NDArray[np.float64],
    lengths: NDArray[np.int64],
    offsets: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the times of all events; `begins`: of each session, as a share of the four weeks."""
    pauses = np.exp(random.normal(PAUSE_MU, PAUSE_SIGMA, int(offsets[-1]))).astype(np.int64) + 1
    pauses[offsets[:-1]] = 0
    passed = np.cumsum(pauses)
    passed -= np.repeat(passed[offsets[:-1]], lengths)
    times = np.repeat((begins * WEEKS_MS).astype(np.int64), lengths) + passed
    in_weeks: NDArray[np.int64] = FIRST_MS + np.minimum(times, WEEKS_MS - 1)
    return in_weeks


def _types(random: np.random.Generator, events: int) -> pa.DictionaryArray:
    bounds = np.cumsum(TYPE_SHARES[:-1])
    codes = np.searchsorted(bounds, random.random(events)).astype(np.int8)
    return pa.DictionaryArray.from_arrays(codes, list(TYPES))


@contextmanager
def _json_lines(path: Path) -> Iterator[Sink]:
    """Write the text of many events at a time, which Arrow puts together."""
    with path.open("wb") as file:

        def sink(chunk: Chunk) -> None:
            offsets, table = chunk
            columns = {name: table[name].combine_chunks() for name in ("aid", "ts", "type")}
            events = _joined(
                '{"aid": ',
                columns["aid"],
                ', "ts": ',
                columns["ts"],
                ', "type": "',
                columns["type"],
                '"}',
            )
            lists = pa.ListArray.from_arrays(offsets.astype(np.int32), events)
            numbers = table["session"].combine_chunks().take(pa.array(offsets[:-1]))
            lines = _joined(
                '{"session": ', numbers, ', "events": [', pc.binary_join(lists, ", "), "]}\n"
            )
            file.write(lines.buffers()[2])

        yield sink


def _joined(*parts: Any) -> pa.StringArray:
    """Return the texts of some columns side by side, with constants between them."""
    texts = [part if isinstance(part, str) else part.cast(pa.string()) for part in parts]
    return pc.binary_join_element_wise(*texts, "")


@contextmanager
def _csv(path: Path) -> Iterator[Sink]:
    quiet = pacsv.WriteOptions(quoting_style="none", quoting_header="none")
    with pacsv.CSVWriter(path, _schema(pa.string()), write_options=quiet) as writer:
        yield lambda chunk: writer.write_table(chunk[1].cast(_schema(pa.string())))


@contextmanager
def _parquet(path: Path) -> Iterator[Sink]:
    kind = pa.dictionary(pa.int8(), pa.string())
    with pq.ParquetWriter(path, _schema(kind)) as writer:
        yield lambda chunk: writer.write_table(chunk[1])


def _schema(kind: pa.DataType) -> pa.Schema:
    return pa.schema(
        {"session": pa.int64(), "aid": pa.int32(), "ts": pa.int64(), "type": kind},
    )


if __name__ == "__main__":
    app()
