"""Fourth stage: shards are split into parts, and the training part is filtered to the fixed point.

Each pass reads and writes every shard once; what items are left is decided between two passes, from
the counts of all shards.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.click_options import ClickOptions
from data.distributed.ordering import OrderedShard, Shard
from data.distributed.runner import Runner, Stage
from data.prepared.arrays import write_array
from data.sessions import SessionCounts, Sessions
from data.split import (
    Extent,
    by_label,
    by_time,
    check_cut,
    check_labelled,
    cut_before_days,
    days_text,
    first_test_session,
    fraction_text,
)

NEXT_ITEMS = "next-items.bool"


@dataclass(frozen=True)
class PartCounts:
    """Sessions and clicks of a part in some shards, with the codes of its items."""

    sessions: int
    clicks: int
    items: NDArray[np.int32]  # distinct

    @classmethod
    def of(cls, sessions: Sessions) -> "PartCounts":
        return cls(len(sessions), len(sessions.items), np.unique(sessions.items))


@dataclass(frozen=True)
class SplitShard:
    """Parts of one shard; test sessions of one click are counted in `all_test` only."""

    number: int
    shards: dict[str, Shard]
    train: PartCounts
    test: PartCounts
    all_test: int
    next_items: NDArray[np.int32]  # distinct items of the next clicks of the test part


@dataclass(frozen=True)
class SplitLog:
    """Parts of the ordered log, each as shards in order."""

    folder: Path
    parts: Mapping[str, Sequence[Shard]]
    train: SessionCounts
    test: SessionCounts

    def values(self) -> Mapping[str, Any]:
        """Return the result as values of JSON."""
        parts = {part: [one.recorded() for one in shards] for part, shards in self.parts.items()}
        return {"parts": parts, "train": asdict(self.train), "test": asdict(self.test)}

    @classmethod
    def of(cls, values: Mapping[str, Any], folder: Path) -> "SplitLog":
        """Return the result whose values were recorded."""
        parts = {
            part: [Shard.of(one, folder) for one in shards]
            for part, shards in values["parts"].items()
        }
        counts = (SessionCounts(**values[part]) for part in ("train", "test"))
        return cls(folder, parts, *counts)

    def next_items(self) -> NDArray[np.bool_]:
        """Return (items,) bool, whether a next click of the test part is on the item."""
        return np.fromfile(self.folder / NEXT_ITEMS, dtype=bool)


@dataclass(frozen=True)
class FilteredTrain:
    """Training part at the fixed point, with the counts of each round that changed it."""

    shards: Sequence[Shard]
    rounds: Sequence[SessionCounts]
    knows_next: bool  # a next click of the test part is on one of its items
    last_ms: int  # time of the last click

    def values(self) -> Mapping[str, Any]:
        """Return the result as values of JSON."""
        shards = [(shard.folder.name, shard.recorded()) for shard in self.shards]
        rounds = [asdict(counts) for counts in self.rounds]
        return {**asdict(replace(self, shards=[], rounds=[])), "shards": shards, "rounds": rounds}

    @classmethod
    def of(cls, values: Mapping[str, Any], folder: Path) -> "FilteredTrain":
        """Return the result whose values were recorded."""
        shards = [Shard.of(one, folder / name) for name, one in values["shards"]]
        rounds = [SessionCounts(**counts) for counts in values["rounds"]]
        return cls(**{**values, "shards": shards, "rounds": rounds})


@dataclass
class _PartSums:
    """Counts of a part in all shards so far; memory grows with the items of the log alone."""

    seen: NDArray[np.bool_]  # (items,)
    sessions: int = 0
    clicks: int = 0

    def add(self, part: PartCounts) -> None:
        self.sessions += part.sessions
        self.clicks += part.clicks
        self.seen[part.items] = True

    def counts(self, step: str) -> SessionCounts:
        return SessionCounts(step, self.sessions, self.clicks, int(self.seen.sum()))


@dataclass(frozen=True)
class _FilteredShard:
    number: int
    shard: Shard
    sessions_before: int  # with the supported items, before short sessions were dropped
    items: NDArray[np.int32]
    clicks: NDArray[np.int64]  # on each of `items`
    last_ms: int


@dataclass
class _Pass:
    """Shards of one pass with its counts so far."""

    counts: NDArray[np.int64]  # (items,) clicks
    shards: dict[int, Shard] = field(default_factory=dict)
    sessions_before: int = 0
    last_ms: int = 0

    def add(self, result: _FilteredShard) -> None:
        self.counts[result.items] += result.clicks
        self.shards[result.number] = result.shard
        self.sessions_before += result.sessions_before
        self.last_ms = max(self.last_ms, result.last_ms)

    def in_order(self) -> list[Shard]:
        return [self.shards[number] for number in sorted(self.shards)]


def split_log(
    ordered: Sequence[OrderedShard],
    options: ClickOptions,
    items: int,
    folder: Path,
    runner: Runner,
    stage: Stage,
) -> SplitLog:
    """Split the log by time or by column; raise `BadInput` where a part is empty."""
    extent = Extent(
        sum(one.shard.size.sessions for one in ordered),
        min(one.first_ms for one in ordered),
        max(one.last_ms for one in ordered),
    )
    cut_ms, what = _cut_of(ordered, extent, options)
    train, test = (_PartSums(np.zeros(items, dtype=bool)) for _ in range(2))
    all_test, next_items = 0, np.zeros(items, dtype=bool)
    found: dict[int, Mapping[str, Shard]] = {}
    with stage("Splitting") as progress:
        calls = [(one.number, one.shard, cut_ms, folder) for one in ordered]
        for result in runner.map(split_shard, calls, progress):
            train.add(result.train)
            test.add(result.test)
            all_test += result.all_test
            next_items[result.next_items] = True
            found[result.number] = result.shards
    if cut_ms is None:
        check_labelled(train.sessions, all_test)
    else:
        check_cut(train.sessions, all_test, extent, what)
    write_array(folder / NEXT_ITEMS, next_items)
    parts: dict[str, list[Shard]] = {"train": [], "test": [], "valid": []}
    for number in sorted(found):
        for part, shard in found[number].items():
            parts[part].append(shard)
    return SplitLog(
        folder,
        {part: shards for part, shards in parts.items() if shards or part != "valid"},
        train.counts("training part"),
        test.counts("test part"),
    )


def split_shard(number: int, shard: Shard, cut_ms: int | None, folder: Path) -> SplitShard:
    """Split one shard at a time, or by its labels where there is none."""
    sessions = shard.open()
    if cut_ms is None:
        split = by_label(replace(sessions, split=shard.labels()))
    else:
        split = by_time(sessions, cut_ms)
    test = split.test.keep_sessions(split.test.lengths >= 2)
    parts = {"train": split.train, "test": test, "valid": split.valid}
    shards = {
        part: Shard.write(folder, f"{part}-{number:06}", one)
        for part, one in parts.items()
        if one is not None and len(one)
    }
    return SplitShard(
        number,
        shards,
        PartCounts.of(split.train),
        PartCounts.of(test),
        all_test=len(split.test),
        next_items=np.unique(test.next_clicks),
    )


def filter_train(
    split: SplitLog, options: ClickOptions, items: int, folder: Path, runner: Runner, stage: Stage
) -> FilteredTrain:
    """Drop short sessions and rare items until none is left, as `filter_to_fixed_point` does."""
    rounds: list[SessionCounts] = []
    shards, sessions, clicks = split.parts["train"], split.train.sessions, split.train.clicks
    supported: NDArray[np.bool_] | None = None
    for number in count():
        target = folder / f"pass-{number}"
        target.mkdir()
        result = _pass(shards, supported, options.min_length, items, target, runner, stage)
        if supported is not None:
            name = f"items of at least {options.min_support} clicks"
            rounds.append(SessionCounts(name, result.sessions_before, clicks, int(supported.sum())))
        shards, counts = result.in_order(), result.counts
        long = int(counts.sum())
        if long < clicks:
            sessions = sum(shard.size.sessions for shard in shards)
            name = f"sessions of at least {options.min_length} clicks"
            rounds.append(SessionCounts(name, sessions, long, int(np.count_nonzero(counts))))
        supported = counts >= options.min_support
        clicks = int(counts[supported].sum())
        if clicks == long:
            knows_next = bool((split.next_items() & (counts > 0)).any())
            return FilteredTrain(shards, rounds, knows_next, result.last_ms)
    raise AssertionError("a pass without changes is the last one")


def filter_shard(
    number: int, shard: Shard, mask: Path | None, min_length: int, folder: Path
) -> _FilteredShard:
    """Drop the items that the mask leaves out, then short sessions."""
    sessions = shard.open()
    if mask is not None:
        supported = np.fromfile(mask, dtype=bool)
        sessions = sessions.keep_clicks(supported[sessions.items])
    before = len(sessions)
    sessions = sessions.keep_sessions(sessions.lengths >= min_length)
    found, clicks = np.unique(sessions.items, return_counts=True)
    return _FilteredShard(
        number,
        Shard.write(folder, f"{number:06}", sessions),
        before,
        found,
        clicks.astype(np.int64),
        last_ms=int(sessions.time_ms.max()) if len(sessions) else 0,
    )


def _pass(
    shards: Sequence[Shard],
    supported: NDArray[np.bool_] | None,
    min_length: int,
    items: int,
    folder: Path,
    runner: Runner,
    stage: Stage,
) -> _Pass:
    """Filter all shards once, and remove the files of the pass before."""
    mask = None
    if supported is not None:
        mask = folder / "supported.bool"
        write_array(mask, supported)
    calls = [(number, shard, mask, min_length, folder) for number, shard in enumerate(shards)]
    done = _Pass(np.zeros(items, dtype=np.int64))
    with stage("Filtering") as progress:
        for result in runner.map(filter_shard, calls, progress):
            done.add(result)
    if supported is not None:
        shutil.rmtree(shards[0].folder)
    return done


def _cut_of(
    ordered: Sequence[OrderedShard], extent: Extent, options: ClickOptions
) -> tuple[int | None, str]:
    """Return the time at which the test part begins, and its description; None for a column."""
    if options.split_column is not None:
        return None, ""
    if options.test_days is not None:
        return cut_before_days(extent, options.test_days), days_text(options.test_days)
    first = first_test_session(extent.sessions, options.test_fraction)
    for one in ordered:
        if first < one.shard.size.sessions:
            return int(one.shard.open().starts_ms[first]), fraction_text(options.test_fraction)
        first -= one.shard.size.sessions
    raise AssertionError("the first test session is one of the log")
