"""Small click logs and sessions for tests, and a training watcher without output."""

import numpy as np

from data.clicks import ClickLog
from data.sessions import Sessions, sessionise
from training.checkpoint import EpochResult


def log_of(rows: list[tuple[str, str, int]], split: list[int] | None = None) -> ClickLog:
    """Build a log from rows of (session or user, item, seconds)."""
    groups = list(dict.fromkeys(group for group, _, _ in rows))
    items = list(dict.fromkeys(item for _, item, _ in rows))
    return ClickLog(
        group=np.array([groups.index(group) for group, _, _ in rows], dtype=np.int32),
        item=np.array([items.index(item) for _, item, _ in rows], dtype=np.int32),
        time_ms=np.array([seconds * 1000 for _, _, seconds in rows], dtype=np.int64),
        group_ids=tuple(groups),
        item_ids=tuple(items),
        split=None if split is None else np.array(split, dtype=np.int8),
    )


def texts(sessions: Sessions) -> list[str]:
    """Return each session as one word of its item ids."""
    return ["".join(sessions.item_ids[code] for code in sessions[s]) for s in range(len(sessions))]


def words(*sessions: str) -> Sessions:
    rows = [(f"s{n}", item, n) for n, word in enumerate(sessions) for item in word]
    return sessionise(log_of(rows), None)


class Quiet:
    """Training watcher that records results and prints nothing."""

    def __init__(self) -> None:
        self.results: list[EpochResult] = []

    def epoch_begins(self, phase: str, epoch: int, epochs: int, done: int, events: int) -> None:
        pass

    def stepped(self, events: int, mean_loss: float) -> None:
        pass

    def epoch_ends(self, result: EpochResult) -> None:
        self.results.append(result)
