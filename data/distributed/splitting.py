"""Fourth stage: shards are split into parts, and the training part is filtered to the fixed point.

Each pass reads and writes every shard once; what items are left is decided between two passes, from
the counts of all shards.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.click_options import ClickOptions
from data.distributed.ordering import OrderedShard, Shard
from data.distributed.runner import Runner, Stage
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

    parts: dict[str, list[Shard]]
    train: SessionCounts
    test: SessionCounts
    next_items: NDArray[np.int32]


@dataclass(frozen=True)
class FilteredTrain:
    """Training part at the fixed point, with the counts of each round that changed it."""

    shards: list[Shard]
    rounds: list[SessionCounts]
    counts: NDArray[np.int64]  # (items,) clicks on each item of the log
    last_ms: int  # time of the last click


@dataclass(frozen=True)
class _FilteredShard:
    number: int
    shard: Shard
    sessions_before: int  # with the supported items, before short sessions were dropped
    items: NDArray[np.int32]
    clicks: NDArray[np.int64]  # on each of `items`
    last_ms: int


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
    with stage("Splitting") as progress:
        calls = [(one.number, one.shard, cut_ms, folder) for one in ordered]
        results = sorted(runner.map(split_shard, calls, progress), key=lambda one: one.number)
    train_sessions = sum(result.train.sessions for result in results)
    test_sessions = sum(result.all_test for result in results)
    if cut_ms is None:
        check_labelled(train_sessions, test_sessions)
    else:
        check_cut(train_sessions, test_sessions, extent, what)
    parts: dict[str, list[Shard]] = {"train": [], "test": [], "valid": []}
    for result in results:
        for part, shard in result.shards.items():
            parts[part].append(shard)
    return SplitLog(
        parts={part: shards for part, shards in parts.items() if shards or part != "valid"},
        train=_added("training part", [result.train for result in results], items),
        test=_added("test part", [result.test for result in results], items),
        next_items=np.unique(np.concatenate([result.next_items for result in results])),
    )


def split_shard(number: int, shard: Shard, cut_ms: int | None, folder: Path) -> SplitShard:
    """Split one shard at a time, or by its labels where there is none."""
    sessions = shard.open()
    if cut_ms is None:
        split = by_label(_labelled(sessions, shard.labels()))
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
        results = _pass(shards, supported, options.min_length, target, runner, stage)
        if supported is not None:
            sessions = sum(result.sessions_before for result in results)
            name = f"items of at least {options.min_support} clicks"
            rounds.append(SessionCounts(name, sessions, clicks, int(supported.sum())))
        shards = [result.shard for result in results]
        counts = np.zeros(items, dtype=np.int64)
        for result in results:
            counts[result.items] += result.clicks
        long = int(counts.sum())
        if long < clicks:
            sessions = sum(shard.size.sessions for shard in shards)
            name = f"sessions of at least {options.min_length} clicks"
            rounds.append(SessionCounts(name, sessions, long, int(np.count_nonzero(counts))))
        supported = counts >= options.min_support
        clicks = int(counts[supported].sum())
        if clicks == long:
            last_ms = max((result.last_ms for result in results), default=0)
            return FilteredTrain(shards, rounds, counts, last_ms)
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
    folder: Path,
    runner: Runner,
    stage: Stage,
) -> list[_FilteredShard]:
    """Filter all shards once, and remove the files of the pass before."""
    mask = None
    if supported is not None:
        mask = folder / "supported.bool"
        supported.tofile(mask)
    calls = [(number, shard, mask, min_length, folder) for number, shard in enumerate(shards)]
    with stage("Filtering") as progress:
        results = sorted(runner.map(filter_shard, calls, progress), key=lambda one: one.number)
    if supported is not None:
        shutil.rmtree(shards[0].folder)
    return results


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


def _labelled(sessions: Sessions, labels: NDArray[np.int8]) -> Sessions:
    return Sessions(sessions.items, sessions.time_ms, sessions.offsets, (), labels)


def _added(step: str, parts: Sequence[PartCounts], items: int) -> SessionCounts:
    seen = np.zeros(items, dtype=bool)
    for part in parts:
        seen[part.items] = True
    return SessionCounts(
        step, sum(p.sessions for p in parts), sum(p.clicks for p in parts), int(seen.sum())
    )
