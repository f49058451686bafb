"""Preparation on Dask, stage by stage; the folder is that of the in-memory path, byte by byte.

Every stage writes files that the next one reads, so memory is bounded by a partition for each
worker and by the items of the log. The workers must see the folder under the same path. Rows are
ordered by file and place in it, and this order alone decides: not the partitions, not the workers.
A run that was stopped goes on after its last finished stage (`data/distributed/stages.py`).
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.bad_rows import SkippedRows
from data.click_options import ClickOptions
from data.clicks import ClickFiles, Duplicates
from data.distributed.cutting import CutLog, cut_log
from data.distributed.ordering import OrderedLog, Shard, order_sessions
from data.distributed.ranges import BlockSizes
from data.distributed.reading import ReadLog, read_parts
from data.distributed.runner import ClusterOptions, Runner, Stage, WorkersFailed, open_runner
from data.distributed.splitting import FilteredTrain, SplitLog, filter_train, split_log
from data.distributed.stages import RECORD, SPILL, Stages
from data.event_types import types_of
from data.prepare import as_cut_off, check_known, check_left
from data.prepared.arrays import TYPES, PartSize
from data.prepared.folder import seal
from data.prepared.manifest import CATALOGUE, Origin, PreparedManifest
from data.prepared.run import Writer
from data.sessions import SessionCounts
from recsys.errors import BadInput, Interrupted
from recsys.fileio import unwritable

CATALOGUE_STAGE = "catalogue"  # folder of the ids of all items
NAMES = ("read", "cut", "ordered", "split", "filtered")  # of the stages and of their folders


@dataclass(frozen=True)
class Preparation:
    """One way to prepare a log; only the options decide about the result."""

    options: ClickOptions
    work: Path  # folder of the files between stages, which a later run goes on with
    rows_per_partition: int
    stage: Stage
    say: Callable[[str], None]  # a sentence on what an earlier run has left
    sizes: BlockSizes = field(default_factory=BlockSizes)


def on_cluster(preparation: Preparation, cluster: ClusterOptions) -> Writer:
    """Return the writer that lets the workers of a cluster prepare the log."""
    return in_stages(preparation, lambda spill: open_runner(cluster, spill))


def in_stages(
    preparation: Preparation, open_runner: Callable[[Path], AbstractContextManager[Runner]]
) -> Writer:
    """Return the writer that goes on after the stages of an earlier run.

    open_runner: Takes a folder for files of the workers.
    """

    def write(folder: Path, origin: Origin) -> None:
        ClickFiles.find(preparation.options)  # before workers start
        with _kept(preparation.work):
            stages = Stages.open(preparation.work, origin, NAMES, preparation.say)
            spill = preparation.work / SPILL
            shutil.rmtree(spill, ignore_errors=True)
            spill.mkdir()
            with open_runner(spill) as runner:
                write_in_stages(folder, origin, preparation, stages, runner)

    return write


@contextmanager
def _kept(work: Path) -> Iterator[None]:
    """Keep finished stages where the same command can go on after them, and say so.

    Raises:
        Interrupted: Ctrl-C or SIGTERM stopped the run.
    """
    try:
        yield
    except BaseException as error:
        failed = error
        shutil.rmtree(work / SPILL, ignore_errors=True)
        is_of_clicks = isinstance(failed, BadInput) and not isinstance(failed, WorkersFailed)
        if is_of_clicks or not any((work / f"{name}{RECORD}").exists() for name in NAMES):
            shutil.rmtree(work, ignore_errors=True)
            raise
        advice = f"Finished stages are kept in {work}. The same command goes on after them."
        if isinstance(failed, KeyboardInterrupt):
            raise Interrupted(f"Stopped. {advice}") from error
        if isinstance(failed, OSError):
            failed = unwritable(work, failed)
        if isinstance(failed, BadInput):
            raise WorkersFailed(failed.heading, [*failed.problems, advice]) from error
        raise


def write_in_stages(
    folder: Path, origin: Origin, preparation: Preparation, stages: Stages, runner: Runner
) -> None:
    """Write the prepared folder; the unfinished work of the stages is removed at the end."""
    options, stage, rows = preparation.options, preparation.stage, preparation.rows_per_partition
    files = ClickFiles.find(options)

    def read(target: Path) -> ReadLog:
        with stage("Reading clicks") as progress:
            catalogue = preparation.work / CATALOGUE_STAGE
            return read_parts(files, target, catalogue, rows, preparation.sizes, runner, progress)

    log = stages.run("read", ReadLog, read)
    column = options.event_column
    types = () if column is None else types_of(log.event_ids, column)

    def cut(target: Path) -> CutLog:
        with stage("Cutting sessions") as progress:
            in_some = files.event_in_some
            return cut_log(log, files.options, in_some, types, target, rows, runner, progress)

    sessions = stages.run("cut", CutLog, cut, superfluous=["read"])
    counts = sessions.counts
    check_left("session", counts)

    def order(target: Path) -> OrderedLog:
        with stage("Ordering sessions") as progress:
            ranges = -(-counts[-1].clicks // rows)
            return order_sessions(sessions, ranges, target, runner, progress)

    ordered = stages.run("ordered", OrderedLog, order, superfluous=["cut"])
    split = stages.run(
        "split",
        SplitLog,
        lambda target: split_log(ordered.shards, options, log.items, target, runner, stage),
        superfluous=["ordered"],
    )
    train = stages.run(
        "filtered",
        FilteredTrain,
        lambda target: filter_train(split, options, log.items, target, runner, stage),
    )
    shutil.copyfile(preparation.work / CATALOGUE_STAGE / CATALOGUE, folder / CATALOGUE)
    labelled = options.split_column is not None
    found = sessions.duplicates, log.skipped
    finish(folder, origin, log.items, counts, found, labelled, types, split, train, stage)


def finish(
    folder: Path,
    origin: Origin,
    items: int,
    counts: Sequence[SessionCounts],
    found: tuple[Duplicates, SkippedRows],
    labelled: bool,
    event_types: Sequence[str],
    split: SplitLog,
    train: FilteredTrain,
    stage: Stage,
) -> None:
    """Write arrays and manifest beside the catalogue; raise `BadInput` where a part is empty."""
    counts = [*counts, split.train, *train.rounds]
    check_left("training session", counts)
    counts = [*counts, split.test]
    check_left("test session", counts)
    check_known(np.array([train.knows_next]), split.test.clicks - split.test.sessions)
    shards = {**split.parts, "train": train.shards}
    with stage("Writing") as progress:
        parts = {}
        for done, (part, one) in enumerate(shards.items(), 1):
            parts[part] = write_part(folder, part, one)
            progress(done, len(shards))
    manifest = PreparedManifest(
        origin=origin,
        counts=counts,
        duplicates=found[0],
        skipped=found[1],
        cut_off=as_cut_off(train.last_ms),
        items=items,
        labelled=labelled,
        parts=parts,
        event_types=event_types,
    )
    seal(folder, manifest)


def write_part(folder: Path, part: str, shards: Sequence[Shard]) -> PartSize:
    """Write the arrays of one part: those of its shards, one after the other."""
    clicks = sessions = 0
    kind = TYPES["offsets.i64"]
    with (folder / f"{part}.offsets.i64").open("wb") as offsets:
        offsets.write(np.zeros(1, dtype=kind).data)
        for shard in shards:
            offsets.write((clicks + shard.open().offsets[1:]).astype(kind).data)
            clicks += shard.size.clicks
            sessions += shard.size.sessions
    events = shards[0].size.events
    for name in ("items.i32", "times.i64", *(["events.i8"] if events else [])):
        with (folder / f"{part}.{name}").open("wb") as target:
            for shard in shards:
                with (shard.folder / f"{shard.name}.{name}").open("rb") as source:
                    shutil.copyfileobj(source, target, 1 << 20)
    return PartSize(sessions, clicks, events)
