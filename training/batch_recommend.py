"""`recsys recommend --clicks F`: a list for every visitor of a click file, as a file or as JSON.

The lists are those the service would give after the same clicks: one predictor makes both. A
file has one row for each item of a list; it is written list by list, and appears at its name when
the last one is in it. Where visitors are users (`--session-column none`), the newest session of
each counts: the clicks after the last pause longer than the idle gap.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from rich.console import Console

from data.click_options import ClickOptions
from data.clicks import ClickLog
from data.prepare import read_log
from recsys.bundle.golden import open_predictor
from recsys.catalogue.catalogue import read_filter
from recsys.errors import BadInput
from recsys.fileio import check_new_file, replace_file
from recsys.listing import ListFields, list_as_json
from recsys.predictor import Predictor, Ranking, SessionState
from recsys.retrieval.exact import RankingQuery
from training.progress import bar, warn

AT_ONCE = 64  # visitors
WRITTEN_AT_ONCE = 4096  # visitors in a row group
# ending of the file → what writes tables to it
WRITERS: dict[str, Callable[[Path, pa.Schema], pq.ParquetWriter | pacsv.CSVWriter]] = {
    ".csv": lambda path, schema: pacsv.CSVWriter(path, schema),
    ".parquet": lambda path, schema: pq.ParquetWriter(path, schema, compression="zstd"),
}
FILE_COLUMNS = {  # behind that of the visitor
    "place": pa.int16(),
    "item_id": pa.string(),
    "score": pa.float32(),
    "source": pa.string(),
}


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """For whom, from what, how much, and where to."""

    bundle: Path
    clicks: ClickOptions
    out: Path | None = None  # None for JSON on standard output, a line for each visitor
    k: int = 20
    exclude_seen: bool = False
    filters: Sequence[str] = ()  # attribute:value

    def __post_init__(self) -> None:
        taken = list(get_type_hints(ListFields)) if self.out is None else list(FILE_COLUMNS)
        if self.visitor_column in taken:
            raise BadInput(
                "The lists cannot be written",
                [
                    f"{self.visitor_column!r} would name the visitor and a part of the list, which "
                    f"has {', '.join(taken)}. Rename the column in the click file."
                ],
            )
        if self.out is not None and self.out.suffix.lower() not in WRITERS:
            raise BadInput(
                "The lists cannot be written",
                [f"--out {self.out} must end in {' or '.join(WRITERS)}. Rename it."],
            )

    @property
    def visitor_column(self) -> str:
        """Name the column with an id for each list: of sessions, or of users."""
        return self.clicks.visitor_column


def recommend_all(options: BulkOptions, console: Console) -> int:
    """Write the lists; return the number of visitors."""
    if options.out is not None:
        check_new_file(options.out, "The lists")
    predictor = open_predictor(options.bundle)
    allowed = None
    if options.filters:
        catalogue = predictor.catalogue
        allowed = catalogue.allowed(read_filter(options.filters, catalogue.attributes))
    wish = RankingQuery(options.k, allowed=allowed)
    with bar(console, "Reading clicks", "") as progress:
        log, duplicates = read_log(options.clicks, progress)
    warn(console, duplicates.warning)
    visits = _Visits(log, predictor, options.clicks.session_gap_seconds)
    name = options.visitor_column

    def lists() -> Iterator[tuple[range, Iterator[Ranking]]]:
        with bar(console, "Recommending", "visitors") as progress:
            for start in range(0, len(log.group_ids), WRITTEN_AT_ONCE):
                visitors = range(start, min(start + WRITTEN_AT_ONCE, len(log.group_ids)))
                yield visitors, _rankings(predictor, visits, visitors, wish, options.exclude_seen)
                progress(visitors.stop, len(log.group_ids))

    out = options.out
    if out is None:
        for visitors, rankings in lists():
            for visitor, ranking in zip(visitors, rankings, strict=True):
                said = {name: log.group_ids[visitor], **list_as_json(ranking, predictor)}
                sys.stdout.write(json.dumps(said, ensure_ascii=False) + "\n")
        return len(log.group_ids)
    writer = WRITERS[out.suffix.lower()]
    schema = pa.schema([(name, pa.string()), *FILE_COLUMNS.items()])

    def write(path: Path) -> None:
        with writer(path, schema) as file:
            for visitors, rankings in lists():
                file.write_table(_table(predictor, log, visitors, rankings, schema))

    replace_file(out, write)
    console.print(f"{len(log.group_ids):,} lists are in {out}.", markup=False)
    return len(log.group_ids)


class _Visits:
    """The newest session of each visitor in the order of its times, as indices of the catalogue."""

    def __init__(self, log: ClickLog, predictor: Predictor, gap: int | None) -> None:
        """gap: seconds of silence that end a session; None where visitors are sessions."""
        known = predictor.catalogue.find_all(log.item_ids)
        order = np.lexsort((log.time_ms, log.group))  # stable: equal times stay as in the file
        self._items = known[log.item[order]]
        visitors = np.arange(len(log.group_ids))
        group = log.group[order]
        self._ends = np.searchsorted(group, visitors, side="right")
        begins = np.ones(len(order), dtype=bool)
        begins[1:] = group[1:] != group[:-1]
        if gap is not None:
            begins[1:] |= np.diff(log.time_ms[order]) > gap * 1000
        starts = np.flatnonzero(begins)
        self._starts = starts[np.searchsorted(starts, self._ends) - 1]  # the last one before

    def of(self, visitor: int) -> list[int]:
        """With -1 for what the catalogue lacks."""
        clicks: list[int] = self._items[self._starts[visitor] : self._ends[visitor]].tolist()
        return clicks


def _rankings(
    predictor: Predictor, visits: _Visits, visitors: range, wish: RankingQuery, exclude_seen: bool
) -> Iterator[Ranking]:
    for start in range(visitors.start, visitors.stop, AT_ONCE):
        some = [visits.of(v) for v in range(start, min(start + AT_ONCE, visitors.stop))]
        windows = [[i for i in clicks[-predictor.window :] if i >= 0] for clicks in some]
        seen = [window if exclude_seen else () for window in windows]
        wishes = [replace(wish, excluded=items) for items in seen]
        state = predictor.advance([SessionState(window) for window in windows])
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
