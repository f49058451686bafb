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
    """Shares from a time on, in epoch seconds; empty shares end the experiment."""

    time: float
    experiment: str
    main: str
    shares: Mapping[str, float]


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
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            changes.append(ShareChange(**json.loads(line)))
        except (ValueError, TypeError):
            problems.append(f"line {number} is no change of shares. Remove it.")
    if problems:
        raise BadInput(f"{path} cannot be read", problems)
    return changes
