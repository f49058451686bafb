"""Events folder with lists and clicks of an experiment, written as `recsys collect` does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data.events.folder import EventsFolder
from data.events.writing import EventsWriter
from recsys.events.schemas import CLICKS, IMPRESSIONS, SCHEMAS


class Shown(NamedTuple):
    """A list that was shown."""

    time: float
    user: str
    list_id: str
    variant: str | None
    items: Sequence[str] = ("a", "b")


class Clicked(NamedTuple):
    """A click, which may name its list."""

    time: float
    user: str
    item: str
    list_id: str | None = None
    event_type: str | None = None


def write_events(path: Path, shown: Sequence[Shown], clicked: Sequence[Clicked]) -> Path:
    """Write the events in the order of time and return the folder."""
    impressions = [
        {
            "timestamp": each.time,
            "user_id": each.user,
            "session_id": f"{each.user}-1",
            "list_id": each.list_id,
            "model_id": f"model of {each.variant}",
            "variant": each.variant,
            "source": "model",
            "items": list(each.items),
        }
        for each in sorted(shown, key=lambda each: each.time)
    ]
    clicks = [
        {
            "timestamp": each.time,
            "user_id": each.user,
            "session_id": f"{each.user}-1",
            "click": number,
            "item_id": each.item,
            "event_type": each.event_type,
            "list_id": each.list_id,
            "variant": None,
            "model_id": None,
        }
        for number, each in enumerate(sorted(clicked, key=lambda each: each.time), start=1)
    ]
    batch = {CLICKS: _columns(CLICKS, clicks), IMPRESSIONS: _columns(IMPRESSIONS, impressions)}
    EventsWriter(EventsFolder.create(path)).write(batch)
    return path


def _columns(kind: str, rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    numbered = [
        {"entry": f"00-{round(row['timestamp'] * 1000)}-{number}", **row}
        for number, row in enumerate(rows)
    ]
    return {name: [row[name] for row in numbered] for name in SCHEMAS[kind].names}
