"""Events folder of a small shop, as `recsys collect` would have written it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.events.folder import EventsFolder
from data.events.writing import EventsWriter
from data.synthetic import Shop
from recsys.events.schemas import CLICKS, SCHEMAS

DAY_SECONDS = 86_400


def shop_clicks(shop: Shop, day: int, sessions: int, seed: int) -> pd.DataFrame:
    """Return the clicks of a day, counted from 1970: sessions at even places of the day."""
    clicks = shop.walk(sessions, seed)
    session = pd.factorize(clicks["session_id"])[0]
    first = clicks.groupby(session)["timestamp"].transform("min")
    begin = day * DAY_SECONDS + session * (DAY_SECONDS - 3600) / sessions
    return pd.DataFrame(
        {
            "session_id": [f"{day}u{number}-0" for number in session],
            "item_id": shop.table()["item_id"].to_numpy()[clicks["item"]],
            "timestamp": begin + (clicks["timestamp"] - first),
        }
    )


def write_events(folder: Path, clicks: pd.DataFrame) -> Path:
    """Write clicks with session_id, item_id and timestamp into an events folder; return it."""
    clicks = clicks.sort_values("timestamp", kind="stable", ignore_index=True)
    number = np.arange(len(clicks))
    ms = (clicks["timestamp"] * 1000).astype("int64")
    columns: dict[str, list[Any]] = {name: [None] * len(clicks) for name in SCHEMAS[CLICKS].names}
    columns |= {
        "entry": [f"00-{at}-{n}" for at, n in zip(ms, number, strict=True)],
        "timestamp": clicks["timestamp"].astype(float).tolist(),
        "user_id": [text.partition("-")[0] for text in clicks["session_id"]],
        "session_id": clicks["session_id"].tolist(),
        "click": (clicks.groupby("session_id").cumcount() + 1).tolist(),
        "item_id": clicks["item_id"].tolist(),
    }
    EventsWriter(EventsFolder.create(folder)).write({CLICKS: columns})
    return folder
