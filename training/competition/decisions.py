"""Decisions of a competition: each is written to the folder of the run before it is acted on.

A run that is resumed reads them, so that it repeats no comparison and asks no clock again.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recsys.errors import BadInput
from recsys.fileio import replace_file
from training.parallel.processes import ALONE, Processes

DECISIONS = "competition.json"


class Decisions:
    """Decisions of one run, by name; values are what JSON can hold."""

    def __init__(self, folder: Path, run: str, processes: Processes = ALONE) -> None:
        """Read the decisions of the folder, if there are any.

        Args:
            folder: Existing folder of the run; the first process has it.
            run: Fingerprint of clicks, rivals and budget.
            processes: All take the decisions of the first process.

        Raises:
            BadInput: The file is damaged or belongs to a run with another fingerprint.
        """
        self._path = folder / DECISIONS
        self._run = run
        self._processes = processes
        self._made: dict[str, Any] = {}
        with processes.all_or_none():
            if processes.is_first:
                self._made = self._read()
        self._made = processes.of_first(self._made)

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            fingerprint, made = stored["fingerprint"], dict(stored["decisions"])
        except (OSError, ValueError, KeyError, TypeError) as broken:
            raise BadInput(
                "The run cannot be resumed", [f"{self._path} is damaged ({broken})."]
            ) from broken
        if fingerprint != self._run:
            raise BadInput(
                "The run cannot be resumed",
                [
                    f"{self._path} belongs to other clicks, options, recipes or another budget. "
                    "Repeat the first command, or delete the folder to begin anew."
                ],
            )
        return made

    def once(self, name: str, decide: Callable[[], Any]) -> Any:
        """Return the decision of this name, which is made and written if there is none yet.

        Raises:
            BadInput: The file cannot be written.
        """
        if name not in self._made:
            made = {**self._made, name: self._processes.of_first(decide())}
            with self._processes.all_or_none():
                if self._processes.is_first:
                    self._write(made)
            self._made = made
        return self._made[name]

    def _write(self, made: dict[str, Any]) -> None:
        text = json.dumps({"fingerprint": self._run, "decisions": made}, indent=2)
        replace_file(self._path, lambda path: path.write_text(text + "\n", encoding="utf-8"))
