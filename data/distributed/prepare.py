"""Preparation on Dask, stage by stage; the folder is that of the in-memory path, byte by byte.

Every stage writes files that the next one reads, so memory is bounded by a partition for each
worker and by the items of the log. The workers must see the folder under the same path. Rows are
ordered by file and place in it, and this order alone decides: not the partitions, not the workers.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.click_options import ClickOptions
from data.clicks import ClickFiles
from data.distributed.cutting import cut_log
from data.distributed.ordering import Shard, order_sessions
from data.distributed.reading import read_parts
from data.distributed.runner import ClusterOptions, Runner, Stage, open_runner
from data.distributed.splitting import filter_train, split_log
from data.prepare import as_cut_off, check_known, check_left
from data.prepared.arrays import TYPES, PartSize
from data.prepared.folder import seal, write_catalogue
from data.prepared.manifest import Origin, PreparedManifest
from data.prepared.run import Writer

WORK = "work"  # folder of the files between stages


def on_cluster(options: ClickOptions, cluster: ClusterOptions, stage: Stage) -> Writer:
    """Return the writer that lets the workers of a cluster prepare the log."""

    def write(folder: Path, origin: Origin) -> None:
        ClickFiles.find(options)  # before workers start
        spill = folder / WORK / "spill"
        spill.mkdir(parents=True)
        with open_runner(cluster, spill) as runner:
            write_in_stages(folder, origin, options, cluster.rows_per_partition, runner, stage)
        shutil.rmtree(folder / WORK)

    return write


def write_in_stages(
    folder: Path,
    origin: Origin,
    options: ClickOptions,
    rows_per_partition: int,
    runner: Runner,
    stage: Stage,
) -> None:
    """Write the prepared folder; files between stages are in its folder `work`."""
    work = {name: folder / WORK / name for name in ("read", "cut", "ordered", "split", "filtered")}
    for path in work.values():
        path.mkdir(parents=True)
    files = ClickFiles.find(options)
    with stage("Reading clicks") as progress:
        log = read_parts(files, work["read"], rows_per_partition, runner, progress)
    write_catalogue(folder, log.item_ids)
    items = len(log.item_ids)
    with stage("Cutting sessions") as progress:
        cut = cut_log(
            log,
            files.options,
            files.event_in_some,
            work["cut"],
            rows_per_partition,
            runner,
            progress,
        )
    shutil.rmtree(work["read"])
    counts = cut.counts
    check_left("session", counts)
    with stage("Ordering sessions") as progress:
        ranges = -(-counts[-1].clicks // rows_per_partition)
        ordered = order_sessions(cut.partitions, ranges, work["ordered"], runner, progress)
    shutil.rmtree(work["cut"])
    split = split_log(ordered, options, items, work["split"], runner, stage)
    shutil.rmtree(work["ordered"])
    train = filter_train(split, options, items, work["filtered"], runner, stage)
    counts += [split.train, *train.rounds]
    check_left("training session", counts)
    counts.append(split.test)
    check_left("test session", counts)
    check_known((train.counts > 0)[split.next_items], split.test.clicks - split.test.sessions)
    shards = {**split.parts, "train": train.shards}
    with stage("Writing") as progress:
        parts = {}
        for done, (part, one) in enumerate(shards.items(), 1):
            parts[part] = write_part(folder, part, one)
            progress(done, len(shards))
    manifest = PreparedManifest(
        origin=origin,
        counts=counts,
        duplicates=cut.duplicates,
        cut_off=as_cut_off(train.last_ms),
        items=items,
        labelled=options.split_column is not None,
        parts=parts,
    )
    seal(folder, manifest)


def write_part(folder: Path, part: str, shards: Sequence[Shard]) -> PartSize:
    """Write the arrays of one part: those of its shards, one after the other."""
    clicks = sessions = 0
    offsets = (folder / f"{part}.offsets.i64").open("wb")
    with offsets:
        np.zeros(1, dtype=TYPES["offsets.i64"]).tofile(offsets)
        for shard in shards:
            (clicks + shard.open().offsets[1:]).astype(TYPES["offsets.i64"]).tofile(offsets)
            clicks += shard.size.clicks
            sessions += shard.size.sessions
    for name in ("items.i32", "times.i64"):
        with (folder / f"{part}.{name}").open("wb") as target:
            for shard in shards:
                with (shard.folder / f"{shard.name}.{name}").open("rb") as source:
                    shutil.copyfileobj(source, target, 1 << 20)
    return PartSize(sessions, clicks)
