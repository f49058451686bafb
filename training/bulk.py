"""`recsys recommend --clicks F --out R`: a list for everybody in a click file.

The lists are those the service would give after the same clicks: one predictor makes both. They are
written as they are made, a row an item, and `R` appears when the last one is in it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from data.clicks import ClickLog, read_clicks
from data.columns import Columns
from recsys.atomic import check_new_file, replace_file
from recsys.golden import open_predictor
from recsys.predictor import Memory, Predictor, Ranking
from recsys.retrieval import Wish
from training.progress import bar

AT_ONCE = 64  # visitors
WRITTEN_AT_ONCE = 4096  # visitors in a row group


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """For whom, from what, and how much."""

    bundle: Path
    clicks: Path
    out: Path
    columns: Columns
    k: int = 20
    exclude_seen: bool = False
    delimiter: str | None = None


def recommend_all(options: BulkOptions, console: Console) -> int:
    """Write the lists; gives how many visitors there were."""
    check_new_file(options.out, "The lists")
    with bar(console, "Reading clicks", "") as progress:
        log = read_clicks(
            options.clicks, options.columns, delimiter=options.delimiter, progress=progress
        )
    predictor = open_predictor(options.bundle)
    name = options.columns.session or "session_id"
    schema = pa.schema(
        [
            (name, pa.string()),
            ("place", pa.int16()),
            ("item_id", pa.string()),
            ("score", pa.float32()),
            ("source", pa.string()),
        ]
    )

    def write(path: Path) -> None:
        with (
            pq.ParquetWriter(path, schema, compression="zstd") as file,
            bar(console, "Recommending", "visitors") as progress,
        ):
            for start in range(0, len(log.group_ids), WRITTEN_AT_ONCE):
                visitors = range(start, min(start + WRITTEN_AT_ONCE, len(log.group_ids)))
                rankings = _rankings(predictor, visits, visitors, options)
                file.write_table(_table(predictor, log, visitors, rankings, schema))
                progress(visitors.stop, len(log.group_ids))

    visits = _Visits(log, predictor)
    replace_file(options.out, write)
    console.print(f"{len(log.group_ids):,} lists are in {options.out}.", markup=False)
    return len(log.group_ids)


class _Visits:
    """Each visitor's clicks in the order of their times, as indices of the catalogue."""

    def __init__(self, log: ClickLog, predictor: Predictor) -> None:
        known = predictor.catalogue.find_all(log.item_ids)
        order = np.lexsort((log.time_ms, log.group))  # stable: equal times stay as in the file
        self._items = known[log.item[order]]
        lengths = np.bincount(log.group, minlength=len(log.group_ids))
        self._offsets = np.concatenate([[0], np.cumsum(lengths)])

    def of(self, visitor: int) -> list[int]:
        """With -1 for what the catalogue lacks."""
        clicks: list[int] = self._items[
            self._offsets[visitor] : self._offsets[visitor + 1]
        ].tolist()
        return clicks


def _rankings(
    predictor: Predictor, visits: _Visits, visitors: range, options: BulkOptions
) -> Iterator[Ranking]:
    for start in range(visitors.start, visitors.stop, AT_ONCE):
        some = [visits.of(v) for v in range(start, min(start + AT_ONCE, visitors.stop))]
        windows = [[i for i in clicks[-predictor.window :] if i >= 0] for clicks in some]
        wishes = [Wish(options.k, window if options.exclude_seen else ()) for window in windows]
        state = predictor.advance([Memory(window) for window in windows])
        yield from predictor.rank(state, windows, wishes)


def _table(
    predictor: Predictor,
    log: ClickLog,
    visitors: Sequence[int],
    rankings: Iterator[Ranking],
    schema: pa.Schema,
) -> pa.Table:
    ids = predictor.catalogue.item_ids
    names: list[str] = []
    places: list[int] = []
    items: list[str] = []
    scores: list[float] = []
    sources: list[str] = []
    for visitor, ranking in zip(visitors, rankings, strict=True):
        names += [log.group_ids[visitor]] * len(ranking.items)
        places += range(1, len(ranking.items) + 1)
        items += ids.take(ranking.items)
        scores += ranking.scores
        sources += [ranking.source] * len(ranking.items)
    return pa.table([names, places, items, scores, sources], schema=schema)
