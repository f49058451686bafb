"""Measure `recsys prepare` by workers: time of each stage, memory of all processes, disk.

    python tests/benchmarks/prepare_at_size.py /tmp/otto --scale 0.0625
    python tests/benchmarks/prepare_at_size.py /tmp/otto --scale 0.25 --workers 2 --memory 2GB

writes a log with `otto_log.py`, unless it is there, and prepares it. Once a second, the memory of
the command and of all its descendants is added up (PSS, which counts a shared page once), and so
are their processor time and the files between stages. A stage has ended when its record is there.
"""

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from data.prepared.run import unfinished
from tests.benchmarks import otto_log
from tests.support.python_process import environment
from tests.support.service.processes import PROC, family, resident

COLUMNS = ["--session-column", "session", "--item-column", "aid", "--time-column", "ts"]
RECORD = ".json"  # ends the record of a finished stage

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass
class Measured:
    """Figures of a run so far; memory in MB, others in bytes and seconds."""

    began: float = field(default_factory=time.perf_counter)
    tree: float = 0.0  # highest sum over the processes
    command: float = 0.0  # highest of the command itself
    disk: int = 0  # most bytes between stages
    written: dict[int, int] = field(default_factory=dict)  # process → bytes
    worked: dict[int, float] = field(default_factory=dict)  # process → seconds of a processor
    # stage → its end, by the clock and by the work of all processes
    ends: dict[str, tuple[float, float]] = field(default_factory=dict)

    def sample(self, pid: int, work: Path) -> None:
        memory = {}
        for each in family(pid):
            with suppress(OSError, KeyError):  # it has just ended
                memory[each] = resident(each).pss
                self.written[each] = _written(each)
                self.worked[each] = _worked(each)
        self.tree = max(self.tree, sum(memory.values()))
        self.command = max(self.command, memory.get(pid, 0.0))
        self.disk = max(self.disk, _size(work))
        for record in work.glob(f"*{RECORD}"):
            self.ends.setdefault(record.stem, self.now())

    def now(self) -> tuple[float, float]:
        """Return the seconds by the clock, and those of all processors."""
        return time.perf_counter() - self.began, sum(self.worked.values())


@app.command()
def measure(
    folder: Annotated[Path, typer.Argument(help="Folder for the log and the result.")],
    scale: Annotated[float, typer.Option(help="Share of OTTO's sessions and items.")] = 0.0625,
    workers: int = 2,
    memory: Annotated[str, typer.Option(help="Of each worker.")] = "2GB",
    ending: Annotated[str, typer.Option(help="Of the log: .jsonl, .csv or .parquet.")] = ".jsonl",
    support: Annotated[int, typer.Option(help="--min-support.")] = 5,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the result, to train on it.")] = False,
) -> None:
    """Prepare the log once and print the figures; the log stays, and the result with --keep."""
    log, out = folder / f"otto-{scale:g}{ending}", folder / f"prepared-{scale:g}"
    folder.mkdir(parents=True, exist_ok=True)
    if not log.exists():
        otto_log.write(log, scale)
    command = [sys.executable, "-m", "recsys", "prepare", "--clicks", str(log), *COLUMNS]
    command += ["--out", str(out), "--min-support", str(support)]
    command += ["--workers", str(workers), "--worker-memory", memory]
    work = unfinished(out)
    for old in (out, work):
        shutil.rmtree(old, ignore_errors=True)
    measured = Measured()
    run = subprocess.Popen(command, env=environment())
    while run.poll() is None:
        with suppress(OSError):  # it has just ended
            measured.sample(run.pid, work)
        time.sleep(1)
    if run.returncode != 0:
        raise SystemExit(run.returncode)
    console, before = Console(width=120), (0.0, 0.0)
    ends = sorted(measured.ends.items(), key=lambda one: one[1])
    for stage, end in [*ends, ("written", measured.now())]:
        console.print(f"{stage}: {end[0] - before[0]:,.0f} s, {end[1] - before[1]:,.0f} s of work")
        before = end
    console.print(f"in all {before[0]:,.0f} s, {before[1]:,.0f} s of work")
    console.print(
        f"log {_gb(log.stat().st_size)}, result {_gb(_size(out))}; most between stages "
        f"{_gb(measured.disk)}, written by all processes {_gb(sum(measured.written.values()))}"
    )
    console.print(
        f"memory at most {measured.tree / 1000:.2f} GB in all processes, "
        f"{measured.command / 1000:.2f} GB in the command"
    )
    if not keep:
        shutil.rmtree(out)


def _written(pid: int) -> int:
    """Return the bytes that the process has caused to be written to disks."""
    lines = (PROC / str(pid) / "io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def _worked(pid: int) -> float:
    """Return the seconds that processors have worked for the process."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it has just been removed
                total += Path(parent, name).stat().st_size
    return total


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


if __name__ == "__main__":
    app()
