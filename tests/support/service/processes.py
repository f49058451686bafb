"""Memory of processes as the kernel counts it, what they share told apart from what is their own.

RSS counts a page in every process that has it, and `RssAnon` counts copies that a fork has not made
yet; PSS divides a page among the processes that have it, so PSS adds up.
"""

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Resident:
    """Of one process, in MB."""

    rss: float  # pages that it has
    pss: float  # its share of them
    private: float  # those that nobody else has
    written: float  # of these, what was written; the rest are files, which can be read again
    peak: float  # the most that it ever had


def resident(pid: int) -> Resident:
    """Raises `OSError` where the process is gone."""
    kb = _numbers(pid, "smaps_rollup") | _numbers(pid, "status")
    return Resident(
        rss=kb["Rss"] / 1024,
        pss=kb["Pss"] / 1024,
        private=(kb["Private_Clean"] + kb["Private_Dirty"]) / 1024,
        written=kb["Private_Dirty"] / 1024,
        peak=kb["VmHWM"] / 1024,
    )


def _numbers(pid: int, file: str) -> dict[str, int]:
    rows = [row.partition(":") for row in (PROC / str(pid) / file).read_text().splitlines()]
    return {name: int(value.split()[0]) for name, _, value in rows if value.endswith(" kB")}


def family(pid: int) -> list[int]:
    """The process, its children, theirs, and so on."""
    text = (PROC / str(pid) / "task" / str(pid) / "children").read_text()
    return [pid, *(each for child in text.split() for each in family(int(child)))]
