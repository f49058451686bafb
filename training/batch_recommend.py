"""Batch recommendation: a list for every visitor of a click file (`recsys recommend --clicks`).

The service gives the same lists after the same clicks, because both use the same predictor. The
file has one row for each item of a list. It gets its name when it is complete. Where visitors are
users (`--session-column none`), a list follows from the newest session: the clicks after the last
pause longer than the idle gap.
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
from data.prepare import Remark, read_log, warnings_of
from recsys.bundle.golden import open_predictor
from recsys.catalogue.catalogue import read_filter
from recsys.errors import BadInput
from recsys.fileio import check_new_file, replace_file
from recsys.listing import ListFields, list_as_json
from recsys.predictor import Predictor, Ranking, SessionState
from recsys.retrieval.exact import RankingQuery
from training.progress import bar, warn

BATCH_VISITORS = 64
ROW_GROUP_VISITORS = 4096
# ending of the file → constructor of a table writer
WRITERS: dict[str, Callable[[Path, pa.Schema], pq.ParquetWriter | pacsv.CSVWriter]] = {
    ".csv": lambda path, schema: pacsv.CSVWriter(path, schema),
    ".parquet": lambda path, schema: pq.ParquetWriter(path, schema, compression="zstd"),
}
FILE_COLUMNS = {  # after the column of the visitor
    "place": pa.int16(),
    "item_id": pa.string(),
    "score": pa.float32(),
    "source": pa.string(),
}
UNKNOWN = (
    "None of the {:,} items of these clicks is in the catalogue, so all lists show popular items. "
    "Check that item ids are written alike, or give the bundle of this shop."
)


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Options of a batch recommendation."""

    bundle: Path
    clicks: ClickOptions
    out: Path | None = None  # None for JSON on standard output, a line for each visitor
    k: int = 20
    exclude_seen: bool = False
    filters: Sequence[str] = ()  # attribute:value

    def __post_init__(self) -> None:
        reserved = list(get_type_hints(ListFields)) if self.out is None else list(FILE_COLUMNS)
        if self.visitor_column in reserved:
            raise BadInput(
                "The lists cannot be written",
                [
                    f"{self.visitor_column!r} would name the visitor and a part of the list, which "
                    f"has {', '.join(reserved)}. Rename the column in the click file."
                ],
            )
        if self.out is not None and self.out.suffix.lower() not in WRITERS:
            raise BadInput(
                "The lists cannot be written",
                [f"--out {self.out} must end in {' or '.join(WRITERS)}. Rename it."],
            )

    @property
    def visitor_column(self) -> str:
        """Name of the column with an id for each list: of sessions, or of users."""
        return self.clicks.visitor_column


def recommend_all(options: BatchOptions, console: Console) -> int:
    """Write the lists; return the number of visitors."""
    if options.out is not None:
        check_new_file(options.out, "The lists")
    predictor = open_predictor(options.bundle)
    allowed = None
    if options.filters:
        catalogue = predictor.catalogue
        allowed = catalogue.allowed(read_filter(options.filters, catalogue.attributes))
    query = RankingQuery(options.k, allowed=allowed)
    with bar(console, "Reading clicks", "") as progress:
        log, duplicates = read_log(options.clicks, progress)
    warn(console, *warnings_of(duplicates, log.skipped, log.time_ms, log.item_ids))
    if not (predictor.catalogue.find_all(log.item_ids) >= 0).any():
        warn(console, Remark(UNKNOWN.format(len(log.item_ids)), is_serious=True))
    sessions = _NewestSessions(log, predictor, options.clicks.session_gap_seconds)
    name = options.visitor_column

    def recommend() -> Iterator[tuple[range, Iterator[Ranking]]]:
        with bar(console, "Recommending", "visitors") as progress:
            for start in range(0, len(log.group_ids), ROW_GROUP_VISITORS):
                visitors = range(start, min(start + ROW_GROUP_VISITORS, len(log.group_ids)))
                yield (
                    visitors,
                    _rankings(predictor, sessions, visitors, query, options.exclude_seen),
                )
                progress(visitors.stop, len(log.group_ids))

    out = options.out
    if out is None:
        for visitors, rankings in recommend():
            for visitor, ranking in zip(visitors, rankings, strict=True):
                fields = {name: log.group_ids[visitor], **list_as_json(ranking, predictor)}
                sys.stdout.write(json.dumps(fields, ensure_ascii=False) + "\n")
        return len(log.group_ids)
    writer = WRITERS[out.suffix.lower()]
    schema = pa.schema([(name, pa.string()), *FILE_COLUMNS.items()])

    def write(path: Path) -> None:
        with writer(path, schema) as file:
            for visitors, rankings in recommend():
                file.write_table(list_table(predictor, log, visitors, rankings, schema))

    replace_file(out, write)
    console.print(f"{len(log.group_ids):,} lists are in {out}.", markup=False)
    return len(log.group_ids)


class _NewestSessions:
    """Newest session of each visitor, ordered by time, as codes of the predictor's clicks."""

    def __init__(self, log: ClickLog, predictor: Predictor, gap: int | None) -> None:
        """gap: seconds without a click that end a session; None where visitors are sessions."""
        indices = predictor.catalogue.find_all(log.item_ids)
        order = np.lexsort((log.time_ms, log.group))  # stable: equal times stay as in the file
        self._codes = indices[log.item[order]]
        types = predictor.event_types
        if types.count > 1:
            numbers = np.full(len(order), types.numbers[None])
            if log.event is not None and log.event_types:
                number_of = [types.numbers.get(text or None, 0) for text in log.event_ids]
                numbers = np.array(number_of)[log.event[order]]
            self._codes = self._codes * types.count + numbers
        visitors = np.arange(len(log.group_ids))
        group = log.group[order]
        self._ends = np.searchsorted(group, visitors, side="right")
        begins = np.ones(len(order), dtype=bool)
        begins[1:] = group[1:] != group[:-1]
        if gap is not None:
            begins[1:] |= np.diff(log.time_ms[order]) > gap * 1000
        starts = np.flatnonzero(begins)
        self._starts = starts[np.searchsorted(starts, self._ends) - 1]  # the last one before

    def clicks_of(self, visitor: int) -> list[int]:
        """Return the codes of the clicks, below 0 for items that the catalogue lacks."""
        clicks: list[int] = self._codes[self._starts[visitor] : self._ends[visitor]].tolist()
        return clicks


def _rankings(
    predictor: Predictor,
    sessions: _NewestSessions,
    visitors: range,
    query: RankingQuery,
    exclude_seen: bool,
) -> Iterator[Ranking]:
    for start in range(0, len(visitors), BATCH_VISITORS):
        batch = [sessions.clicks_of(v) for v in visitors[start : start + BATCH_VISITORS]]
        windows = [[c for c in clicks[-predictor.window :] if c >= 0] for clicks in batch]
        items_of = predictor.event_types.items
        seen = [items_of(window) if exclude_seen else () for window in windows]
        queries = [replace(query, excluded=items) for items in seen]
        state = predictor.advance([SessionState(window) for window in windows])
        yield from predictor.rank(state, windows, queries)


def list_table(
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
