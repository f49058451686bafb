"""Locks of a study: processes change it one after the other, and each holds its running trial.

They are locks of the system (flock), which end with the process that has them: a trial whose lock
is free although it never ended was killed.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recsys.fileio import unwritable

LOCK = "study.lock"
RUNNING = "running"  # folder of the locks and checkpoints of running trials


class StudyLocks:
    """Locks in the folder of one study, as one process sees them."""

    def __init__(self, folder: Path) -> None:
        self._running = folder / RUNNING
        self._study = _opened(folder / LOCK)

    def close(self) -> None:
        """Close the lock of the study; only this process' part of it ends."""
        os.close(self._study)

    @contextmanager
    def study(self) -> Iterator[None]:
        """Wait until no other process is within this block."""
        fcntl.flock(self._study, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._study, fcntl.LOCK_UN)

    def checkpoint_folder(self, trial: int) -> Path:
        """Return the folder of a trial's checkpoint."""
        return self._running / str(trial)

    def hold(self, trial: int) -> int:
        """Lock a trial and make its folder; return the file to close. The study is locked."""
        self.checkpoint_folder(trial).mkdir(parents=True, exist_ok=True)
        file = _opened(self._lock(trial))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file

    def is_held(self, trial: int) -> bool:
        """Return whether a process runs this trial. The study is locked."""
        if not self._lock(trial).exists():
            return False
        file = _opened(self._lock(trial))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def remove(self, trial: int) -> None:
        """Remove the files of a trial that has ended. The study is locked."""
        shutil.rmtree(self.checkpoint_folder(trial), ignore_errors=True)
        self._lock(trial).unlink(missing_ok=True)
        with suppress(OSError):  # another trial is there
            self._running.rmdir()

    def _lock(self, trial: int) -> Path:
        return self._running / f"{trial}.lock"


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as failed:
        raise unwritable(path, failed) from failed
