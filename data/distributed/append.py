"""Appending of new clicks to a prepared folder, without reading the old click files again.

The new clicks become the test part, and all sessions before become the training part. This is the
preparation of the old and the new clicks together, cut where the first new session starts, but for
what the old preparation has dropped for good: clicks of its training sessions after its own cut,
and items that were rare then. A session that goes on in the new clicks is two sessions. Items keep
their codes, and new ones come behind; event types are those of both. The filters apply to the
training part as a whole.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.bad_rows import SkippedRows
from data.click_options import ClickOptions
from data.distributed.ordering import OrderedShard, Shard
from data.distributed.prepare import finish
from data.distributed.runner import Runner, Stage
from data.distributed.splitting import filter_train, split_log
from data.prepare import Prepared, read_sessions
from data.prepared.folder import PreparedFolder, write_catalogue
from data.prepared.manifest import Origin
from data.sessions import SessionCounts, Sessions, reindex, retyped
from data.sources.object_stores import Url
from data.split import DAY_MS
from recsys.errors import BadInput

WORK = "work"  # folder of the files between stages
NAMED = "append-"  # begins the names of the files that were appended


@dataclass(frozen=True)
class Appending:
    """A prepared folder and new clicks, which are read by its options."""

    base: PreparedFolder
    clicks: Path | Url
    rows_per_partition: int
    stage: Stage

    @property
    def options(self) -> ClickOptions:
        """Options of the folder, with the path of the new clicks."""
        return replace(self.base.options, path=self.clicks)

    def origin_of(self, options: ClickOptions) -> Origin:
        """Return the files of the folder and the new ones, under names that tell them apart."""
        old, new = self.base.manifest.origin, Origin.of(options)
        appended = {s.name.partition("/")[0] for s in old.sources if s.name.startswith(NAMED)}
        name = f"{NAMED}{len(appended) + 1}"
        named = [replace(source, name=f"{name}/{source.name}") for source in new.sources]
        return replace(old, sources=[*old.sources, *named])

    def write(self, folder: Path, origin: Origin) -> None:
        """Fill an empty folder.

        Raises:
            BadInput: The new clicks cannot be used, or are not after the old ones.
        """
        options, stage, runner = self.options, self.stage, Runner()
        with stage("Reading the prepared clicks") as progress:
            old = self.base.open(progress)
        with stage("Reading clicks") as progress:
            read = read_sessions(options, progress, self.base.manifest.event_types)
        known = set(old.train.item_ids)
        new_ids = (item_id for item_id in read.sessions.item_ids if item_id not in known)
        item_ids = (*old.train.item_ids, *new_ids)
        new = reindex(read.sessions, item_ids)
        cut_ms = int(new.starts_ms[0])
        types = new.event_types
        self._check(old, cut_ms, types)
        work = folder / WORK
        for name in ("ordered", "split", "filtered"):
            (work / name).mkdir(parents=True)
        ordered = [
            OrderedShard(
                number,
                Shard.write(work / "ordered", f"{number:06}", one),
                int(one.time_ms.min()),
                int(one.time_ms.max()),
            )
            for number, one in enumerate(self._pieces(types, old.train, old.test, new))
        ]
        days = (max(one.last_ms for one in ordered) + 1 - cut_ms) / DAY_MS
        rule = replace(options, test_days=days)
        split = split_log(ordered, rule, len(item_ids), work / "split", runner, stage)
        shutil.rmtree(work / "ordered")
        train = filter_train(split, rule, len(item_ids), work / "filtered", runner, stage)
        write_catalogue(folder, pa.array(item_ids, pa.string()))
        counts = [_counts_of(old), *(replace(c, step=f"new: {c.step}") for c in read.counts)]
        before = self.base.manifest.duplicates
        duplicates = replace(
            read.duplicates,
            rows=before.rows + read.duplicates.rows,
            clicks=before.clicks + read.duplicates.clicks,
        )
        found = duplicates, self._skipped(read.skipped)
        finish(folder, origin, len(item_ids), counts, found, False, types, split, train, stage)
        shutil.rmtree(work)

    def _check(self, old: Prepared, cut_ms: int, types: Sequence[str]) -> None:
        """Raise `BadInput` where the new clicks do not follow the old ones."""
        problems = []
        if self.base.manifest.labelled:
            problems.append(
                f"{self.base.path} was split by a column, and new clicks are split by time. "
                "Prepare all clicks together."
            )
        if types and not self.base.manifest.event_types:
            problems.append(
                f"the new clicks have the event types {', '.join(types)}, and those of "
                f"{self.base.path} had at most one, which was not kept. Prepare all clicks "
                "together."
            )
        last_ms = int(old.test.starts_ms[-1])
        if last_ms >= cut_ms:
            last, first = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (last_ms, cut_ms))
            problems.append(
                f"the last session of {self.base.path} starts at {last:%Y-%m-%dT%H:%M:%S}, the "
                f"first new one at {first:%Y-%m-%dT%H:%M:%S} (UTC). Give clicks that come later."
            )
        if problems:
            raise BadInput("The clicks cannot be appended", problems)

    def _skipped(self, new: SkippedRows) -> SkippedRows:
        """Return the rows that were left out of the old and the new clicks; new ones are listed."""
        old = self.base.manifest.skipped
        return SkippedRows(old.rows + new.rows, new.listed_in or old.listed_in)

    def _pieces(self, types: Sequence[str], *parts: Sessions) -> Iterator[Sessions]:
        """Yield the sessions of all parts in order, some at a time, with numbers of these types."""
        for part in parts:
            ends = np.arange(0, len(part.items), self.rows_per_partition)
            bounds = np.unique(np.append(np.searchsorted(part.offsets, ends), len(part)))
            for first, last in pairwise(bounds.tolist()):
                piece = retyped(part.part(first, last), types)
                yield replace(piece, item_ids=(), split=None)


def _counts_of(old: Prepared) -> SessionCounts:
    seen = np.zeros(len(old.train.item_ids), dtype=bool)
    for part in (old.train, old.test):
        seen[part.items] = True
    sessions, clicks = len(old.train) + len(old.test), len(old.train.items) + len(old.test.items)
    return SessionCounts("prepared before", sessions, clicks, int(seen.sum()))
