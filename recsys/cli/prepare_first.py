"""Preparation before training: a log that may not fit into the memory is trained from disk.

Reading a log in memory takes about 300 bytes a click. Text has about 40 bytes a click; Parquet and
compressed text have about 8. Where half of the memory may not suffice, workers prepare the log.
"""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from data.click_options import ClickOptions
from recsys.cli.prepare import stopping_by_signals, writer_on
from recsys.errors import BadInput
from recsys.fileio import check_new_folder

if TYPE_CHECKING:
    from data.prepared.folder import PreparedFolder

TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json")
MEMORY_OF_TEXT = 8  # bytes of memory for a byte of text
MEMORY_OF_COMPRESSED = 40  # and for a byte of Parquet or compressed text
SHARE = 0.5  # of the memory that reading may take
MOST_WORKER_BYTES = 4_000_000_000
PREPARED = ".prepared"  # ending of the folder beside the bundle
CGROUPS = Path("/sys/fs/cgroup")
GB = 1e9


def memory_bytes(cgroups: Path = CGROUPS) -> int:
    """Return the memory of this machine, or the limit of the container where it is lower."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_limits(cgroups)])


def _limits(cgroups: Path) -> Iterator[int]:
    """Yield the limits of control groups, versions 2 and 1, as a container sees them."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (cgroups / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # else "max"
            yield int(text)


def estimated_bytes(clicks: ClickOptions) -> int:
    """Return the memory that reading these clicks takes, about; raise `BadInput`."""
    from data.prepared.manifest import Origin

    return sum(
        file.bytes * (MEMORY_OF_TEXT if file.name.endswith(TEXT_ENDINGS) else MEMORY_OF_COMPRESSED)
        for file in Origin.of(clicks).sources
    )


def source_of(
    clicks: ClickOptions, out: Path, console: Console, prepare_first: bool | None
) -> "ClickOptions | PreparedFolder":
    """Return the clicks, or the folder where workers of this machine have prepared them.

    Args:
        clicks: The log.
        out: Folder of the bundle; the prepared clicks are beside it.
        console: Where it is said, with the progress.
        prepare_first: None to prepare where the log may not fit into the memory.

    Raises:
        BadInput: The clicks or the folder cannot be used, Dask is not installed, or processes of
            torchrun would all prepare.
    """
    from training.parallel.torch_processes import started_by_torchrun

    needed, memory = estimated_bytes(clicks), memory_bytes()
    if prepare_first is None:
        prepare_first = needed > SHARE * memory
    if not prepare_first:
        return clicks
    figures = f"about {needed / GB:.1f} GB in memory, and there are {memory / GB:.1f} GB"
    if started_by_torchrun():
        raise BadInput(
            "The clicks must be prepared",
            [
                f"they take {figures} for all processes of a machine. Prepare them once with "
                "recsys prepare, and give --prepared to torchrun's processes; or --in-memory."
            ],
        )
    missing = [name for name in ("dask", "distributed") if find_spec(name) is None]
    if missing:
        raise BadInput(
            "The clicks must be prepared",
            [
                f"they take {figures}, and {' and '.join(missing)} are not installed. Install "
                "session-recsys[prepare], or read them in memory with --in-memory."
            ],
        )
    check_new_folder(out, "The bundle")
    folder = out.with_name(out.name + PREPARED)
    console.print(
        f"The clicks take {figures}: they are prepared first, in\n  {folder}",
        soft_wrap=True,
        markup=False,  # a path is never markup
    )
    return prepared_folder(clicks, folder, memory, console)


def prepared_folder(
    clicks: ClickOptions, folder: Path, memory: int, console: Console
) -> "PreparedFolder":
    """Prepare the clicks with a worker for each processor, unless the folder has them."""
    from data.distributed.runner import LEAST_WORKER_BYTES, ClusterOptions
    from data.prepared.run import make_folder

    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    workers = max(min(workers, int(SHARE * memory) // LEAST_WORKER_BYTES), 1)
    each = min(max(int(SHARE * memory) // workers, LEAST_WORKER_BYTES), MOST_WORKER_BYTES)
    cluster = ClusterOptions(workers, f"{each}B")
    with stopping_by_signals():
        return make_folder(folder, clicks, writer_on(cluster, clicks, folder, console))[0]
