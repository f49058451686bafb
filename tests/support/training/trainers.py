"""`recsys train` in a process of its own that can be killed, stopped, or given a small disk.

A fork server imports torch once; each run is a real process with its own signals and limits, forked
from it in milliseconds.
"""

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from recsys.bundle.layout import WEIGHTS
from training.checkpoint import CHECKPOINT

CLICKS = "session_id,item_id,timestamp\n" + "".join(
    f"s{s},i{(s * 7 + c * (1 + s % 3)) % 60},{100 * s + c}\n" for s in range(240) for c in range(4)
)
# 40 epochs of some 40 steps, a checkpoint after each: long enough to be hit
SETTINGS = ("epochs=40", "patience=40", "hidden=32", "batch=16", "negatives=32", "refit=false")
DROPOUT = ("dropout_embedding=0.2", "dropout_hidden=0.1", "momentum=0.1")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["training.pipeline", "trainers"])


@dataclass(frozen=True)
class TrainingRun:
    """One command `recsys train`, started as often as it takes."""

    clicks: Path
    out: Path
    settings: Sequence[str] = (*SETTINGS, *DROPOUT)

    @property
    def checkpoint(self) -> Path:
        return self.out.with_name(f"{self.out.name}.unfinished") / CHECKPOINT

    def saved(self) -> bytes | None:
        """The checkpoint that is there, if one is."""
        return self.checkpoint.read_bytes() if self.checkpoint.exists() else None

    @property
    def weights(self) -> Path:
        return self.out / WEIGHTS

    def files(self) -> set[Path]:
        """What lies in the folder of the unfinished run."""
        return set(self.checkpoint.parent.iterdir())

    def start(self, *options: str, disk: int | None = None, mortal: bool = False) -> "Started":
        """disk: bytes a file may have; mortal: the kernel kills the process that writes more."""
        words = ["--clicks", self.clicks, "--out", self.out, "--checkpoint-seconds", "0", *options]
        for setting in self.settings:
            words += ["--set", setting]
        said = self.out.with_name(f"{self.out.name}.said")
        command = ["recsys", "train", *map(str, words)]
        process = _context.Process(target=_train, args=(command, said, disk, mortal))
        found = _inode(self.checkpoint)
        process.start()
        return Started(process, said, self.checkpoint, found)

    def finish(self) -> bytes:
        """Go on to the end; the weights, byte for byte."""
        done = self.start("--resume")
        assert done.ended() == 0, done.said
        return self.weights.read_bytes()


@dataclass(frozen=True)
class Started:
    """A running `recsys train`."""

    process: ForkServerProcess
    output: Path
    checkpoint: Path
    found: int | None  # the checkpoint that was there when it started

    def ended(self) -> int:
        """Waits; the exit code, or minus the signal that killed it."""
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode

    def wait_for_a_checkpoint(self) -> None:
        """Until another one stands in its place, or the run has ended."""
        while self.process.is_alive() and _inode(self.checkpoint) == self.found:
            time.sleep(0.001)

    def send(self, number: signal.Signals) -> None:
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")


def _inode(file: Path) -> int | None:
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return None


def _train(command: list[str], said: Path, disk: int | None, mortal: bool) -> None:
    import torch

    from recsys.cli.main import main

    torch.set_num_threads(1)
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if disk is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))
    if mortal:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it, the kernel does not
    sys.argv = command
    main()
