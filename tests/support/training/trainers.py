"""`recsys train` in a process of its own that a test kills, stops, or gives a small disk."""

import os
import resource
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from recsys.bundle.layout import WEIGHTS
from tests.support.processes import Process, start_fork
from training.checkpoint import CHECKPOINT

CLICKS = "session_id,item_id,timestamp\n" + "".join(
    f"s{s},i{(s * 7 + c * (1 + s % 3)) % 60},{100 * s + c}\n" for s in range(240) for c in range(4)
)
# 20 epochs of about 40 steps, a checkpoint after each step: long enough for a kill
SETTINGS = ("epochs=20", "patience=20", "hidden=32", "batch=16", "negatives=32", "refit=false")
DROPOUT = ("dropout_embedding=0.2", "dropout_hidden=0.1", "momentum=0.1")


@dataclass(frozen=True)
class TrainingRun:
    """One command `recsys train`, which can be started several times."""

    clicks: Path
    out: Path
    settings: Sequence[str] = (*SETTINGS, *DROPOUT)
    recipe: str = "default"

    @property
    def checkpoint(self) -> Path:
        work = self.out.with_name(f"{self.out.name}.unfinished")
        return (work / "bpr-max" if self.recipe == "auto" else work) / CHECKPOINT

    def saved(self) -> bytes | None:
        """Return the bytes of the checkpoint, or None."""
        return self.checkpoint.read_bytes() if self.checkpoint.exists() else None

    @property
    def weights(self) -> Path:
        return self.out / WEIGHTS

    def files(self) -> set[Path]:
        """Return the files of the unfinished run."""
        return set(self.checkpoint.parent.iterdir())

    def start(self, *options: str, disk: int | None = None, mortal: bool = False) -> "Started":
        """Start the command.

        Args:
            *options: Further options of the command.
            disk: Largest size of a file, in bytes.
            mortal: Let the kernel kill the process that writes more.
        """
        words = ["train", "--clicks", self.clicks, "--out", self.out, "--recipe", self.recipe]
        words += ["--checkpoint-seconds", "0", *options]
        for setting in self.settings:
            words += ["--set", setting]
        output = self.out.with_name(f"{self.out.name}.output")
        output.unlink(missing_ok=True)
        inode = _inode(self.checkpoint)
        prepare = partial(_limit, disk, mortal)
        process = start_fork([str(word) for word in words], output, os.environ, prepare)
        return Started(process, output, self.checkpoint, inode)

    def finish(self) -> bytes:
        """Resume, wait for the end, and return the bytes of the weights."""
        done = self.start("--resume")
        assert done.ended() == 0, done.text
        return self.weights.read_bytes()


@dataclass(frozen=True)
class Started:
    """A running `recsys train`."""

    process: Process
    output: Path
    checkpoint: Path
    inode: int | None  # of the checkpoint at the start

    def ended(self) -> int:
        """Wait for the end; return the exit code, or minus the signal that killed the process."""
        return self.process.wait()

    def wait_for_a_checkpoint(self) -> None:
        """Wait until the checkpoint is replaced, or the run has ended."""
        while self.process.poll() is None and _inode(self.checkpoint) == self.inode:
            time.sleep(0.001)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def text(self) -> str:
        """Return the output."""
        return self.output.read_text(encoding="utf-8")


def _inode(file: Path) -> int | None:
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return None


def _limit(disk: int | None, mortal: bool) -> None:
    torch.set_num_threads(1)
    if disk is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))
    if mortal:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it, the kernel does not
