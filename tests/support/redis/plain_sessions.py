"""Reference model of the store in plain Python: no Redis, no script, no cache.

It states what the store must do with a user's clicks, in the simplest way. Time is an argument.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.store.click import Click


@dataclass
class PlainSession:
    """Session of one user. `events` are (event id, is from before a DELETE), oldest first."""

    clicks: list[Click] = field(default_factory=list)
    events: list[tuple[str, bool]] = field(default_factory=list)
    clicks_left: float = 0.0  # seconds until the session ends
    tombstone_left: float = 0.0


@dataclass(frozen=True, slots=True)
class ClickCounts:
    """Number of clicks that were accepted, and of duplicates."""

    accepted: int = 0
    duplicates: int = 0
    forgotten: int = 0  # of the duplicates


@dataclass(frozen=True)
class PlainRules:
    """Rules of a session, with the limits of the settings."""

    idle_seconds: float
    tombstone_seconds: float
    event_ids_kept: int
    history_length: int

    def click(self, session: PlainSession, clicks: Sequence[Click]) -> ClickCounts:
        """Add clicks in their order. A click whose event id is known changes nothing."""
        accepted: list[Click] = []
        duplicates = forgotten = 0
        known = dict(session.events)
        for click in clicks:
            if click.event_id in known:
                duplicates += 1
                forgotten += known[click.event_id]
                continue
            accepted.append(click)
            if click.event_id is not None:
                known[click.event_id] = False
                session.events.append((click.event_id, False))
        if accepted:
            session.clicks = [*session.clicks, *accepted][-self.history_length :]
            session.clicks_left = self.idle_seconds
            session.events = session.events[-self.event_ids_kept :]
        return ClickCounts(len(accepted), duplicates, forgotten)

    def forget(self, session: PlainSession) -> None:
        """Delete the clicks. The event ids stay known for a while, as forgotten."""
        session.clicks = []
        session.events = [(event, True) for event, _ in session.events]
        session.tombstone_left = self.tombstone_seconds

    def wait(self, session: PlainSession, seconds: float) -> None:
        """Let time pass. A session ends with its event ids, a tombstone independently of it."""
        session.clicks_left -= seconds
        session.tombstone_left -= seconds
        if session.clicks_left <= 0:
            session.clicks = []
            session.events = [event for event in session.events if event[1]]
        if session.tombstone_left <= 0:
            session.events = [event for event in session.events if not event[1]]
