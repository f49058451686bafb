"""Processes and their memory as the kernel counts it, shared and private.

RSS counts a page in every process that maps it. `RssAnon` counts copies that a fork has not made
yet. PSS divides a page by the number of processes that map it, so the PSS of processes adds up.
"""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Resident:
    """Memory of one process, in MB."""

    rss: float  # mapped pages
    pss: float  # proportional share of them
    private: float  # pages of this process alone
    written: float  # private and modified; the rest can be read from files again
    peak: float  # highest RSS so far


def resident(pid: int) -> Resident:
    """Read the memory of a process; raise `OSError` if it has ended."""
    kb = _numbers(pid, "smaps_rollup") | _numbers(pid, "status")
    return Resident(
        rss=kb["Rss"] / 1024,
        pss=kb["Pss"] / 1024,
        private=(kb["Private_Clean"] + kb["Private_Dirty"]) / 1024,
        written=kb["Private_Dirty"] / 1024,
        peak=kb["VmHWM"] / 1024,
    )


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _numbers(pid: int, file: str) -> dict[str, int]:
    rows = [row.partition(":") for row in (PROC / str(pid) / file).read_text().splitlines()]
    return {name: int(value.split()[0]) for name, _, value in rows if value.endswith(" kB")}


def family(pid: int) -> list[int]:
    """Return the ids of the process and of all its descendants."""
    threads = (PROC / str(pid) / "task").glob("*/children")  # each has those that it started
    children = [int(child) for file in threads for child in file.read_text().split()]
    return [pid, *(each for child in children for each in family(child))]


def gone(pid: int) -> bool:
    """Return whether a process has ended."""
    try:
        return ") Z " in (PROC / str(pid) / "stat").read_text()  # not reaped yet
    except OSError:
        return True
