"""The log of experiments of a model registry: when shares changed, for `recsys compare`.

    registry/experiments.jsonl    one JSON object a line: time, experiment, shares in percent

The shares of a line hold until the next line. They include those of the main version, and are empty
where the experiment ends.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from recsys.errors import BadInput

EXPERIMENTS = "experiments.jsonl"


@dataclass(frozen=True, slots=True)
class ShareChange:
    """Shares from a time on, in epoch seconds; empty shares end the experiment.

    Raises:
        TypeError: if a value has another type.
    """

    time: float
    experiment: str
    main: str
    shares: Mapping[str, float]

    def __post_init__(self) -> None:
        numbers = [self.time, *self.shares.values()] if isinstance(self.shares, dict) else [None]
        texts = isinstance(self.experiment, str) and isinstance(self.main, str)
        if not texts or not all(isinstance(each, int | float) for each in numbers):
            raise TypeError("the values are no change of shares")


def log_change(registry: Path, change: ShareChange) -> None:
    """Append a line, and wait until it is on the disk."""
    with (registry / EXPERIMENTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(change)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_changes(registry: Path) -> list[ShareChange]:
    """Return all changes, oldest first; none where the registry had no experiment.

    Raises:
        BadInput: if a line is not of this format.
    """
    path = registry / EXPERIMENTS
    if not path.exists():
        return []
    changes, problems = [], []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            changes.append(ShareChange(**json.loads(line)))
        except (ValueError, TypeError):
            problems.append(f"line {number} is no change of shares. Remove it.")
    if problems:
        raise BadInput(f"{path} cannot be read", problems)
    return changes
