"""Folders that the processes of one test run share: each is made once."""

import fcntl
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SharedFolders:
    """Folders under a root that all processes of the run know."""

    root: Path

    def made_once(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return the folder of this name; the first process that asks makes it, others wait."""
        folder, made = self.root / name, self.root / f"{name}.made"
        with (self.root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    def is_first(self, task: str) -> bool:
        """Return whether no process of the run has asked for this task before."""
        asked = self.root / f"{hashlib.sha256(task.encode()).hexdigest()}.asked"
        try:
            asked.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
