"""Bad rows of click files: they are reported together, or left out and listed in a file.

Rows are numbered from 1 within their file, without the header; empty lines do not count.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.fileio import replace_file

COLUMNS = ("file", "row", "reason", "text")  # of the file that lists them
TEXT_LENGTH = 1000  # characters of a row that are listed


@dataclass(frozen=True, slots=True)
class BadClick:
    """Row that cannot be used, with all reasons; text: its line, or its values that were read."""

    file: str
    row: int
    reasons: Sequence[str]
    text: str

    def problems(self) -> list[str]:
        """Return a sentence for each reason."""
        return [f"{self.file}: row {self.row:,}, {reason}" for reason in self.reasons]


@dataclass
class BrokenRows:
    """Rows of one file that are in no batch, because they cannot be split into columns."""

    file: str
    rows: list[BadClick] = field(default_factory=list)

    def add(self, row: int, reason: str, text: str) -> None:
        self.rows.append(BadClick(self.file, row, (reason,), text))

    def numbers(self, first: int, count: int) -> NDArray[np.int64]:
        """Return the numbers in the file of `count` rows of batches, (count,) int64.

        first: rows of batches that came before.
        """
        broken = np.sort(np.array([bad.row for bad in self.rows], dtype=np.int64))
        rows_before = broken - 1 - np.arange(len(broken))  # of batches, before each broken row
        places = first + np.arange(count, dtype=np.int64)
        return places + 1 + np.searchsorted(rows_before, places, side="right")


@dataclass(frozen=True, slots=True)
class SkippedRows:
    """Number of bad rows that were left out, and the file that lists them."""

    rows: int = 0
    listed_in: str = ""

    @property
    def warning(self) -> str | None:
        """Sentence for the terminal and the report, or None where no row was left out."""
        if self.rows == 0:
            return None
        were = "row was" if self.rows == 1 else "rows were"
        return f"{self.rows:,} bad {were} left out (--skip-bad-rows), listed in {self.listed_in}."


NO_SKIPPED = SkippedRows()


def list_skipped(bad: Sequence[BadClick], path: Path) -> SkippedRows:
    """Write the rows that were left out into a CSV file, in the order of the log, if there are any.

    Raises:
        BadInput: The file cannot be written.
    """
    if not bad:
        return NO_SKIPPED
    places = {name: place for place, name in enumerate(dict.fromkeys(one.file for one in bad))}

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            for one in sorted(bad, key=lambda one: (places[one.file], one.row)):
                text = one.text[:TEXT_LENGTH]
                rows.writerow([one.file, one.row, " ".join(one.reasons), text])

    replace_file(path, write)
    return SkippedRows(len(bad), str(path))
