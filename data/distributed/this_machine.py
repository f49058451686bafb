"""Memory of this machine: how much of it clicks take, and how many workers can prepare them.

Reading a log in memory takes about 300 bytes a click. Text has about 40 bytes a click; Parquet and
compressed text have about 8. Where half of the memory may not suffice, workers prepare the log.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.click_options import ClickOptions
from data.distributed.runner import LEAST_WORKER_BYTES, ClusterOptions
from data.prepared.manifest import Origin

TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json")
MEMORY_OF_TEXT = 8  # bytes of memory for a byte of text
MEMORY_OF_COMPRESSED = 40  # and for a byte of Parquet or compressed text
SHARE = 0.5  # of the memory that reading may take
MOST_WORKER_BYTES = 4_000_000_000
CGROUPS = Path("/sys/fs/cgroup")
GB = 1e9


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that reading the clicks in memory takes, about, and bytes of memory there are."""

    needed: int
    memory: int

    @classmethod
    def of(cls, clicks: ClickOptions) -> "Room":
        """Estimate it from the sizes of the files; raise `BadInput` where there are none."""
        return cls(estimated_bytes(clicks), memory_bytes())

    @property
    def suffices(self) -> bool:
        return self.needed <= SHARE * self.memory

    @property
    def figures(self) -> str:
        return f"about {self.needed / GB:.1f} GB in memory, and there are {self.memory / GB:.1f} GB"

    def workers(self) -> ClusterOptions:
        """Return a worker for each processor, which together may take the share of the memory."""
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        workers = max(min(workers, int(SHARE * self.memory) // LEAST_WORKER_BYTES), 1)
        each = max(int(SHARE * self.memory) // workers, LEAST_WORKER_BYTES)
        return ClusterOptions(workers, f"{min(each, MOST_WORKER_BYTES)}B")


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
    return sum(
        file.bytes * (MEMORY_OF_TEXT if file.name.endswith(TEXT_ENDINGS) else MEMORY_OF_COMPRESSED)
        for file in Origin.of(clicks).sources
    )
