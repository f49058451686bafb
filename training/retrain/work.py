"""Work folder of a retraining, in the registry: one run at a time, and an interrupted one goes on.

    registry/.retrain/run.json        the fingerprint of the run
    registry/.retrain/clicks.parquet  its clicks
    registry/.retrain/candidate/      its bundle, or candidate.unfinished/ with the checkpoint
    registry/.retrain/decision.json   its decision, from then until it has been carried out

Services follow names that begin with a letter, so no service loads a candidate from here.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recsys.errors import BadInput
from recsys.fileio import locked_folder, replace_file, unwritable
from training.retrain.decision import Decision

WORK = ".retrain"


@dataclass(frozen=True, slots=True)
class Work:
    """Paths of the work folder."""

    folder: Path

    @property
    def clicks(self) -> Path:
        return self.folder / "clicks.parquet"

    @property
    def candidate(self) -> Path:
        return self.folder / "candidate"

    @property
    def removed(self) -> Path:
        """Return the folder of a bundle that is being removed."""
        return self.folder / "removed"

    @property
    def _run(self) -> Path:
        return self.folder / "run.json"

    @property
    def _decision(self) -> Path:
        return self.folder / "decision.json"

    def begin(self, fingerprint: str) -> bool:
        """Begin a run; return whether the folder holds an interrupted one with this fingerprint.

        The files of any other run are removed.
        """
        if self._read(self._run) == {"fingerprint": fingerprint}:
            return True
        self.clear()
        text = json.dumps({"fingerprint": fingerprint})
        replace_file(self._run, lambda path: path.write_text(text, encoding="utf-8"))
        return False

    def decide(self, decision: Decision) -> None:
        """Record a decision before it is carried out."""
        text = decision.to_json()
        replace_file(self._decision, lambda path: path.write_text(text, encoding="utf-8"))

    def pending(self) -> Decision | None:
        """Return a decision that was perhaps not carried out to its end."""
        if not self._decision.exists():
            return None
        try:
            return Decision.of_json(self._decision.read_text(encoding="utf-8"))
        except ValueError:
            return None  # of another version: it is compared again

    def clear(self) -> None:
        """Remove all files of the run."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _read(self, path: Path) -> object:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


@contextmanager
def work_in(registry: Path) -> Iterator[Work]:
    """Lock the work folder of a registry, which is made where there is none.

    Raises:
        BadInput: Another retraining is at work, or the folder cannot be made.
    """
    folder = registry / WORK
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failed:
        raise unwritable(folder, failed) from failed
    in_use = f"it uses {folder}. Wait until it has ended."
    with locked_folder(folder, BadInput("Another retraining is at work", [in_use])):
        yield Work(folder)
